//! What is said when a batch is bought, and what is refused.

use credential::Blank;
use credential::quote::{Answer, BATCH_MAX, Order, Request};
use secp256k1::{Keypair, SECP256K1};
use units::{Msat, Unix};

use crate::spending::epoch;

fn client(byte: u8) -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[byte; 32]).expect("a key")
}

fn order(count: u64) -> Order {
    let (_, keyset) = epoch(1);
    let outputs = (0..count).map(|index| Blank::derive(&[9; 32], keyset.id, index).blinded()).collect();
    Order { keyset: keyset.id, client: client(3).public_key(), outputs }
}

#[test]
fn requests_and_answers_are_read_as_they_were_written() {
    let order = order(3);
    let (secret, _) = epoch(1);
    let claim = order.claim(&client(3));
    for request in [Request::Quote(order.clone()), Request::Issue { quote: order.quote(), claim }] {
        let text = serde_json::to_string(&request).expect("text");
        assert_eq!(serde_json::from_str::<Request>(&text).expect("the same"), request);
    }
    let answers = [
        Answer::Unpaid { quote: [1; 32], invoice: "lnbcrt1".into(), commitment: [2; 32], expiry: Unix(9) },
        Answer::Issued { quote: [1; 32], signatures: vec![secret.sign(&order.outputs[0])] },
        Answer::Refused("no".into()),
    ];
    for answer in answers {
        let text = serde_json::to_string(&answer).expect("text");
        assert_eq!(serde_json::from_str::<Answer>(&text).expect("the same"), answer);
    }
}

#[test]
fn orders_that_are_empty_too_long_or_say_a_thing_twice_are_refused() {
    let refused = |order: Order| {
        let text = serde_json::to_string(&Request::Quote(order)).expect("text");
        serde_json::from_str::<Request>(&text).is_err()
    };
    assert!(!refused(order(BATCH_MAX as u64)) && !refused(order(1)));
    assert!(refused(order(0)) && refused(order(BATCH_MAX as u64 + 1)));
    let mut twice = order(2);
    twice.outputs[1] = twice.outputs[0];
    assert!(refused(twice));
    let text = serde_json::to_string(&Request::Quote(order(2))).expect("text");
    for (from, to) in [("\"v\":1", "\"v\":2"), ("\"k\":2", "\"k\":3"), ("bolt11", "bolt13"), ("\"k\"", "\"x\":1,\"k\"")]
    {
        assert!(serde_json::from_str::<Request>(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn only_who_ordered_gets_the_signatures() {
    let order = order(2);
    assert!(order.is_claimed_by(&order.claim(&client(3))));
    assert!(!order.is_claimed_by(&order.claim(&client(4))));
    let mut other = order.clone();
    other.outputs.swap(0, 1);
    assert!(!order.is_claimed_by(&other.claim(&client(3))), "a claim is on these outputs in this order");
}

#[test]
fn the_invoice_commits_to_everything_that_was_agreed() {
    let order = order(2);
    let commitment = order.commitment(&[1; 32], Msat(4000), Unix(9));
    let mut fewer = order.clone();
    fewer.outputs.pop();
    let mut another = order.clone();
    another.client = client(4).public_key();
    let others = [
        order.commitment(&[2; 32], Msat(4000), Unix(9)),
        order.commitment(&[1; 32], Msat(4001), Unix(9)),
        order.commitment(&[1; 32], Msat(4000), Unix(8)),
        fewer.commitment(&[1; 32], Msat(4000), Unix(9)),
        another.commitment(&[1; 32], Msat(4000), Unix(9)),
    ];
    assert!(!others.contains(&commitment));
    let (_, keyset) = epoch(1);
    assert_eq!(order.amount(&keyset), Some(Msat(4000)));
}
