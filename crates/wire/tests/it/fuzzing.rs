//! A small fuzzer over the fuzz entry points, from valid texts: flips, cuts, splices.

use proptest::prelude::*;
use trade::{Message, MessageId, PartyKey, Refund};
use units::Unix;
use wire::domp::{Context, Transport, encode, kind, sealed};
use wire::event::pubkey_of;
use wire::nip44::ConversationKey;
use wire::{frame, fuzz, seal};

use crate::invoices::invoice;
use crate::samples::{event, key};

type EntryPoint = fn(&[u8]);

/// Valid inputs, one or more for each entry point.
fn corpus() -> Vec<(EntryPoint, Vec<u8>)> {
    let note = event(1, 5, 1, &[&["t", "a\"b\\\u{1}é"], &["d", "x", "y"], &["expiration", "9"]], "𝄞 \n \u{7f}");
    let refund = Message::Refund(Refund { payment: MessageId([0; 32]), reason: "broken \"lamp\"".into() });
    let context = Context { at: Unix(1_790_000_000), ..Context::default() };
    let step = encode(&refund, &context, &key(1), Transport::Public).unwrap();
    let (me, to) = (PartyKey(pubkey_of(&key(1))), PartyKey(pubkey_of(&key(1))));
    let rumor = sealed::rumor(&step, &sealed::Private::default(), me, to);
    let wrap = seal::wrap(&rumor, &key(1), &to.0, Unix(1_790_000_000), None, &[3; 32]).unwrap();
    let filter = r##"{"ids":[],"kinds":[300,301],"#e":["x","y\u0041"],"since":1,"until":9,"limit":5,"search":"lamp"}"##;
    let mut content = kind::REFUND.to_be_bytes().to_vec();
    content.extend(step.content.as_bytes());
    let mut listing = kind::LISTING.to_be_bytes().to_vec();
    listing.extend(
        br#"{"product_name":"Lamp","description":"","price_satoshis":5,"escrow":{"mode":"direct","lock_blocks":720,"on_silence":"refund"}}"#,
    );
    vec![
        (fuzz::event, note.to_json().into_bytes()),
        (fuzz::filter, filter.into()),
        (fuzz::client_frame, frame::publish(&note, Some("bc1token")).into_bytes()),
        (fuzz::client_frame, format!(r#"["REQ","sub",{filter},{filter}]"#).into_bytes()),
        (fuzz::relay_frame, frame::deliver_json("sub", &note.to_json()).into_bytes()),
        (fuzz::relay_frame, format!(r#"["OK","{}",false,"pow: more"]"#, "ab".repeat(32)).into_bytes()),
        (fuzz::relay_frame, br#"["COUNT","s",{"count":7,"approximate":true}]"#.to_vec()),
        (fuzz::domp_content, content),
        (fuzz::domp_content, listing),
        (fuzz::sealed_content, rumor.content.into_bytes()),
        (fuzz::gift_wrap, wrap.to_json().into_bytes()),
        (fuzz::nip44_payload, ConversationKey::from_bytes([1; 32]).encrypt("hi", &[2; 32]).unwrap().into_bytes()),
        (fuzz::invoice, invoice(1, Some(5000)).into_bytes()),
    ]
}

#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index, u8),
    Repeat(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static str),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let pieces = prop::sample::select(vec![
        "\"", "\\", "{", "}", "[", "]", ",", ":", "\\u0041", "\\ud800", "0", "-1", "1e9", "null", " ",
    ]);
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, with)| Damage::Set(at, with)),
        (any::<prop::sample::Index>(), 0..40u8).prop_map(|(at, count)| Damage::Cut(at, count)),
        (any::<prop::sample::Index>(), 0..40u8).prop_map(|(at, count)| Damage::Repeat(at, count)),
        (any::<prop::sample::Index>(), pieces).prop_map(|(at, piece)| Damage::Insert(at, piece)),
    ]
}

fn damage(bytes: &mut Vec<u8>, how: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let span = |at: &prop::sample::Index, count: &u8, len: usize| {
        let at = at.index(len);
        at..(at + usize::from(*count)).min(len)
    };
    match how {
        Damage::Set(at, with) => {
            let at = at.index(bytes.len());
            bytes[at] = *with;
        }
        Damage::Cut(at, count) => drop(bytes.drain(span(at, count, bytes.len()))),
        Damage::Repeat(at, count) => {
            let span = span(at, count, bytes.len());
            let (copy, end) = (bytes[span.clone()].to_vec(), span.end);
            bytes.splice(end..end, copy);
        }
        Damage::Insert(at, piece) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, piece.bytes());
        }
    }
}

#[test]
fn the_corpus_itself_passes() {
    corpus().into_iter().for_each(|(entry, bytes)| entry(&bytes));
}

proptest! {
    #[test]
    fn damaged_inputs_make_no_entry_point_panic(how in proptest::collection::vec(any_damage(), 1..4)) {
        for (entry, mut bytes) in corpus() {
            how.iter().for_each(|how| damage(&mut bytes, how));
            entry(&bytes);
        }
    }
}
