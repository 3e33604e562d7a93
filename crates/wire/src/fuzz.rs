//! One function for each parser of foreign bytes, for a fuzzer to call: none may panic, and what is read must survive being
//! written and read again.

use secp256k1::Keypair;

use crate::domp::{self, sealed};
use crate::event::{Event, Limits, RawEvent, Unsigned};
use crate::filter::{Filter, FilterLimits};
use crate::frame::{ClientFrame, FrameLimits, RelayFrame};
use crate::invoice::parse_invoice;
use crate::nip44::ConversationKey;
use crate::seal::Unwrapped;

/// [`Event::parse`], [`RawEvent`], and the two ways to hash an event.
pub fn event(bytes: &[u8]) {
    let Ok(raw) = RawEvent::parse(bytes, &Limits::RELAY) else { return };
    let event = raw.to_event();
    assert!(
        Event::parse(event.to_json().as_bytes(), &Limits { bytes: usize::MAX, ..Limits::STRICT }) == Ok(event.clone())
    );
    assert_eq!(raw.verify_id(), if event.clone().into_unsigned().id() == event.id { Ok(()) } else { event.verify() });
    assert_eq!(raw.is_canonical(), raw.text == event.to_json());
    assert_eq!(raw.detach().raw().to_event(), event);
    assert_eq!(&*raw.detach().into_json(), event.to_json());
    let keys = bip340::Keys::new(1);
    for _ in 0..bip340::TABLE_AFTER + 2 {
        assert_eq!(raw.verify_with(&keys), raw.verify());
    }
    assert_eq!(raw.tag("d").as_deref(), event.tag("d"));
    assert_eq!(raw.expiration(), event.expiration());
    event.deletion_targets();
    crate::pow::proven(&event);
}

/// [`Filter::parse`].
pub fn filter(bytes: &[u8]) {
    if let Ok(filter) = Filter::parse(bytes, &FilterLimits::DEFAULT) {
        let limits = FilterLimits { bytes: usize::MAX, ..FilterLimits::DEFAULT };
        assert_eq!(Filter::parse(filter.to_json().as_bytes(), &limits), Ok(filter));
    }
}

/// [`ClientFrame::parse`].
pub fn client_frame(bytes: &[u8]) {
    if let Ok(frame) = ClientFrame::parse(bytes, &FrameLimits::RELAY) {
        let text = frame.to_json();
        let limits = FrameLimits { bytes: usize::MAX, ..FrameLimits::RELAY };
        let again = ClientFrame::parse(text.as_bytes(), &limits).expect("what was written is read");
        assert_eq!(again.to_json(), text);
    }
}

/// [`RelayFrame::parse`].
pub fn relay_frame(bytes: &[u8]) {
    if let Ok(frame) = RelayFrame::parse(bytes, &FrameLimits::CLIENT) {
        let text = frame.to_json();
        let limits = FrameLimits { bytes: usize::MAX, ..FrameLimits::CLIENT };
        let again = RelayFrame::parse(text.as_bytes(), &limits).expect("what was written is read");
        assert_eq!(again.to_json(), text);
    }
}

/// [`domp::decode_verified`]. The first two bytes choose the kind, the rest is the content.
pub fn domp_content(bytes: &[u8]) {
    let [high, low, content @ ..] = bytes else { return };
    let Ok(content) = std::str::from_utf8(content) else { return };
    let zero = "00".repeat(32);
    let tag = |elements: &[&str]| elements.iter().map(ToString::to_string).collect();
    let event = Event {
        id: [0; 32],
        pubkey: [0; 32],
        created_at: domp::CREATED_AT_MIN,
        kind: u16::from_be_bytes([*high, *low]),
        tags: vec![tag(&["d", "x"]), tag(&["ref", &zero]), tag(&["anti_spam_proof", "ref", &zero])],
        content: content.to_owned(),
        sig: [0; 64],
    };
    if let Ok(decoded) = domp::decode_verified(&event) {
        let context = domp::Context { at: decoded.at, prev: decoded.prev, ..domp::Context::default() };
        domp::unsigned(&decoded.message, &context, decoded.author, domp::Transport::Public)
            .expect("what is read can be said");
    }
}

/// [`sealed::read`] of a rumor with this content.
pub fn sealed_content(bytes: &[u8]) {
    let Ok(content) = std::str::from_utf8(bytes) else { return };
    for kind in [domp::kind::SEALED_STEP, domp::kind::MESSAGE] {
        let rumor = Unsigned {
            pubkey: [1; 32],
            created_at: domp::CREATED_AT_MIN,
            kind,
            tags: Vec::new(),
            content: content.to_owned(),
        };
        let id = rumor.id();
        // Whether it is refused is the tests' business; here it only must not panic.
        sealed::read(&Unwrapped { rumor, id }).ok();
    }
}

/// [`ConversationKey::decrypt`].
pub fn nip44_payload(bytes: &[u8]) {
    if let Ok(payload) = std::str::from_utf8(bytes) {
        ConversationKey::from_bytes([1; 32]).decrypt(payload).ok();
    }
}

/// [`crate::seal::unwrap`] of an event that came as JSON.
pub fn gift_wrap(bytes: &[u8]) {
    let key = Keypair::from_seckey_slice(secp256k1::SECP256K1, &[1; 32]).expect("a valid key");
    if let Ok(event) = Event::parse(bytes, &Limits::RELAY) {
        crate::seal::unwrap(&event, &key).ok();
    }
}

/// [`parse_invoice`].
pub fn invoice(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        parse_invoice(text).ok();
    }
}
