//! A rating counts when both sides of one escrow pledged it, and not otherwise.

use proptest::prelude::*;
use reputation::{Facts, PLEDGE_TAG, Pledge, Rating, Reject, SETTLED_TAG, Subject, attach, each_once, link, read};
use trade::{ArbiterRating, BoardRating, Message, MessageId, Role, TradeId};
use units::{Height, PaymentHash, Preimage, Sat};
use wire::domp::{self, Context, Transport};
use wire::event::{Event, Unsigned};

use crate::pledges::{NOW, TIP, facts, key, party, pledge};

const BOARD: &str = "wss://board.example";

fn of_user(subject: u8) -> Message {
    let (ended_by, ended_by_kind) = (MessageId([5; 32]), 313);
    let comment = Some("as described".to_owned());
    Message::Rating(trade::Rating { subject: party(subject), rating: 4, comment, ended_by, ended_by_kind })
}

fn of_arbiter() -> Message {
    let about = MessageId([5; 32]);
    Message::ArbiterRating(ArbiterRating { arbiter: party(3), rating: 2, comment: None, about, about_kind: 317 })
}

fn of_board(payment: PaymentHash) -> Message {
    let (url, about) = (BOARD.to_owned(), MessageId([5; 32]));
    Message::BoardRating(BoardRating { url, rating: 5, comment: None, about, payment })
}

fn unsigned(message: &Message, by: u8) -> Unsigned {
    let context = Context { at: NOW, trade: Some(TradeId([6; 32])), ..Context::default() };
    domp::unsigned(message, &context, party(by), Transport::Public).unwrap()
}

fn rating(message: &Message, by: u8, pledges: &[&Pledge], settled: Option<&Preimage>) -> Event {
    let mut unsigned = unsigned(message, by);
    attach(&mut unsigned, pledges, settled);
    unsigned.sign(&key(by), &[0; 32])
}

fn refused(event: &Event) -> &'static str {
    read(event, TIP).unwrap_err().code()
}

#[test]
fn each_side_rates_the_other_the_arbiter_and_a_board() {
    let [payer, payee, arbiter] = [1, 2, 3].map(|by| pledge(&facts(), by));
    let secret = Preimage::new([9; 32]);
    let by_payer = read(&rating(&of_user(2), 1, &[&payer, &payee], Some(&secret)), TIP).unwrap();
    assert_eq!((by_payer.rater, by_payer.role, by_payer.rating), (party(1), Role::Payer, 4));
    assert_eq!(by_payer.subject, Subject::User(party(2)));
    assert_eq!((by_payer.value, by_payer.height, by_payer.hash), (Sat(20_000), TIP, facts().hash));
    assert!(by_payer.settled && !by_payer.disputed);
    let by_payee = read(&rating(&of_user(1), 2, &[&payee, &payer], None), TIP).unwrap();
    assert_eq!((by_payee.subject, by_payee.role, by_payee.settled), (Subject::User(party(1)), Role::Payee, false));
    let of_arbiter = read(&rating(&of_arbiter(), 2, &[&payee, &payer, &arbiter], None), TIP).unwrap();
    assert_eq!((of_arbiter.subject, of_arbiter.disputed), (Subject::Arbiter(party(3)), true));
    let of_board = read(&rating(&of_board(facts().hash), 1, &[&payer, &payee], None), TIP).unwrap();
    assert_eq!(of_board.subject, Subject::Board(BOARD.to_owned()));
}

#[test]
fn identities_are_named_where_they_are_linked_and_boards_find_them() {
    let pledged = |by: u8, identity: u8| {
        Pledge::sign(&facts(), TIP, Some(&link(&key(identity), party(by))), NOW, &key(by)).unwrap()
    };
    let event = rating(&of_user(2), 1, &[&pledged(1, 11), &pledged(2, 12)], None);
    let found = read(&event, TIP).unwrap();
    assert_eq!((found.rater, found.key, found.subject), (party(11), party(1), Subject::User(party(12))));
    let tagged: Vec<_> =
        event.tags.iter().filter(|tag| tag[0] == "p").map(|tag| (tag[1].clone(), tag.get(3).cloned())).collect();
    assert!(tagged.contains(&(party(11).to_string(), Some("rater".to_owned()))));
    assert!(tagged.contains(&(party(12).to_string(), Some(String::new()))));
}

#[test]
fn a_rating_needs_the_pledge_of_the_rater_and_of_whoever_is_rated() {
    let [payer, payee, arbiter] = [1, 2, 3].map(|by| pledge(&facts(), by));
    assert_eq!(refused(&rating(&of_user(2), 1, &[], None)), "not-a-party");
    assert_eq!(refused(&rating(&of_user(2), 1, &[&payee], None)), "not-a-party");
    assert_eq!(refused(&rating(&of_user(2), 1, &[&payer], None)), "not-pledged");
    assert_eq!(refused(&rating(&of_user(2), 1, &[&payer, &arbiter], None)), "not-pledged");
    assert_eq!(refused(&rating(&of_arbiter(), 1, &[&payer, &payee], None)), "not-pledged");
    // Whoever asks an arbiter has its pledge. It takes a trade to rate it.
    assert_eq!(refused(&rating(&of_arbiter(), 1, &[&payer, &arbiter], None)), "not-pledged");
    assert_eq!(refused(&rating(&of_board(facts().hash), 1, &[&payer], None)), "not-pledged");
    // A stranger who has seen both pledges, the arbiter, and somebody who rates itself.
    assert_eq!(refused(&rating(&of_user(2), 4, &[&payer, &payee], None)), "not-a-party");
    assert_eq!(refused(&rating(&of_user(2), 3, &[&arbiter, &payee], None)), "not-a-party");
    assert_eq!(refused(&rating(&of_user(1), 1, &[&payer, &payee], None)), "not-pledged");
}

#[test]
fn a_pledge_of_another_trade_is_no_pledge_of_this_one() {
    let here = facts();
    let other_hash = Facts { hash: PaymentHash([8; 32]), ..here.clone() };
    let other_payer = Facts { payer: party(4), ..here.clone() };
    let other_arbiter = Facts { arbiter: None, ..here.clone() };
    let other_lock = Facts { lock_blocks: 721, ..here.clone() };
    for there in [other_hash.clone(), other_payer, other_arbiter, other_lock] {
        let event = rating(&of_user(2), 1, &[&pledge(&here, 1), &pledge(&there, 2)], None);
        assert_eq!(refused(&event), "pledges-differ", "{there:?}");
    }
    let other_payment = rating(&of_board(other_hash.hash), 1, &[&pledge(&here, 1), &pledge(&here, 2)], None);
    assert_eq!(refused(&other_payment), "wrong-payment");
    let long_ago = Pledge::sign(&here, Height(700_000), None, NOW, &key(2)).unwrap();
    assert_eq!(refused(&rating(&of_user(2), 1, &[&pledge(&here, 1), &long_ago], None)), "pledges-differ");
}

#[test]
fn the_lower_of_two_amounts_counts() {
    let more = Facts { amount: Sat(1_000_000), ..facts() };
    let event = rating(&of_user(2), 1, &[&pledge(&more, 1), &pledge(&facts(), 2)], None);
    assert_eq!(read(&event, TIP).unwrap().value, Sat(20_000));
}

#[test]
fn what_cannot_be_is_refused() {
    let [payer, payee] = [1, 2].map(|by| pledge(&facts(), by));
    let wrong = Preimage::new([1; 32]);
    assert_eq!(refused(&rating(&of_user(2), 1, &[&payer, &payee], Some(&wrong))), "wrong-secret");
    let good = rating(&of_user(2), 1, &[&payer, &payee], None);
    assert_eq!(read(&good, Height(799_000)), Err(Reject::TooHigh));
    let mut forged = good.clone();
    forged.tags.push(vec![SETTLED_TAG.to_owned(), "09".repeat(32)]);
    assert_eq!(refused(&forged), "bad-id");
    let twice = rating(&of_user(2), 1, &[&payer, &payee, &payee], None);
    assert_eq!(refused(&twice), "too-many-pledges");
    let receipt = Unsigned { kind: 313, ..good.clone().into_unsigned() }.sign(&key(1), &[0; 32]);
    assert_eq!(refused(&receipt), "no-rating");
    let mut large = unsigned(&of_user(2), 1);
    large.tags.push(vec![PLEDGE_TAG.to_owned(), "x".repeat(10_000)]);
    assert_eq!(refused(&large.sign(&key(1), &[0; 32])), "too-many-pledges");
}

#[test]
fn a_rater_is_heard_once_for_each_payment_and_its_first_word_counts() {
    let [payer, payee, arbiter] = [1, 2, 3].map(|by| pledge(&facts(), by));
    let at = |secs: u64, message: &Message, by: u8, pledges: &[&Pledge]| {
        let mut unsigned = unsigned(message, by);
        unsigned.created_at.0 += secs;
        attach(&mut unsigned, pledges, None);
        read(&unsigned.sign(&key(by), &[0; 32]), TIP).unwrap()
    };
    let first = at(0, &of_user(2), 1, &[&payer, &payee]);
    let second = at(60, &of_user(2), 1, &[&payer, &payee]);
    let back = at(30, &of_user(1), 2, &[&payee, &payer]);
    let arbiter = at(90, &of_arbiter(), 1, &[&payer, &payee, &arbiter]);
    let all: Vec<Rating> = vec![second, arbiter.clone(), first.clone(), back.clone(), first.clone()];
    assert_eq!(each_once(all), (vec![first, back, arbiter], 1));
}

#[test]
fn a_label_brings_its_rating_along_whoever_signed_it() {
    let [payer, payee] = [1, 2].map(|by| pledge(&facts(), by));
    let event = rating(&of_user(2), 1, &[&payer, &payee], None);
    let known = read(&event, TIP).unwrap();
    let label = reputation::label(&known, &event, party(8).0, NOW).sign(&key(8), &[0; 32]);
    let tags: Vec<_> = label.tags.iter().map(|tag| tag[..2].join(" ")).collect();
    let subject = format!("p {}", party(2));
    assert_eq!(tags[..4], ["L souk.rating", "l user/4", &subject, "rating 0.75"]);
    assert_eq!(label.content, "as described");
    let taken = reputation::from_label(&label.to_json()).unwrap();
    assert_eq!(read(&taken, TIP), Ok(known));
    assert!(reputation::from_label(&event.to_json()).unwrap() == event);
    // A label that says more than its receipt says nothing more.
    let mut lie = label.into_unsigned();
    lie.tags[1][1] = "user/5".to_owned();
    lie.tags[2][1] = party(4).to_string();
    let lie = reputation::from_label(&lie.sign(&key(8), &[0; 32]).to_json()).unwrap();
    assert_eq!(read(&lie, TIP).unwrap().subject, Subject::User(party(2)));
    assert_eq!(reputation::from_label(&payer.event().to_json()).unwrap_err(), Reject::NoRating);
    assert_eq!(reputation::from_label("{}").unwrap_err(), Reject::NoRating);
}

proptest! {
    #[test]
    fn no_change_of_a_tag_makes_another_rating_that_counts(at in 0_usize..12, value in ".{0,80}") {
        let [payer, payee] = [1, 2].map(|by| pledge(&facts(), by));
        let secret = Preimage::new([9; 32]);
        let good = rating(&of_user(2), 1, &[&payer, &payee], Some(&secret));
        let known = read(&good, TIP).unwrap();
        let mut changed = good.into_unsigned();
        let at = at % changed.tags.len();
        if changed.tags[at].len() > 1 {
            changed.tags[at][1] = value;
        }
        // Signed again by the rater: whatever it says now, it is about the same escrow and weighs no more.
        if let Ok(read) = read(&changed.sign(&key(1), &[0; 32]), TIP) {
            prop_assert_eq!((read.subject, read.hash), (known.subject, known.hash));
            prop_assert!(read.value <= known.value);
        }
    }
}
