//! What an arbiter's log comes to, and what it may claim of it.

use proptest::prelude::*;
use reputation::{Claim, Reject, Service, Times};
use trade::{
    Arbiter, ArbiterState, BondFate, EscrowTerms, Event as Logged, Fee, FeeState, MessageId, Mode, OnSilence, Opening,
    Outcome, OwnNode, Role, Ruling, Said, Step, Trade, TradeId,
};
use units::{Height, Sat};
use wire::event::{Event, Unsigned};

use crate::pledges::{NOW, facts, key, party};

const HOUR: u64 = 3600;

/// A trade of four tranches that key 3 was asked to serve in.
fn asked() -> Arbiter {
    let terms = EscrowTerms {
        mode: Mode::Arbitrated,
        arbiters: vec![party(3)],
        arbiter_release: true,
        min_payer_bond: Sat::ZERO,
        payee_bond: Sat::ZERO,
        lock_blocks: 720,
        tranches: 4,
        on_silence: OnSilence::Release,
    };
    let opening = Opening {
        trade: TradeId([1; 32]),
        role: Role::Arbiter,
        listing: MessageId([2; 32]),
        terms,
        payer: party(1),
        payee: party(2),
        arbiter: Some(party(3)),
        amount: Sat(20_000),
        payer_bond: Sat::ZERO,
        payment_hashes: vec![facts().hash],
        message: None,
        timeout_hours: 24,
        payee_node: None,
        quantity: 1,
        pay_by_hand: false,
        max_arbiter_fee: Sat::ZERO,
        fiat: None,
        quote_until: None,
        order: None,
        node: OwnNode { network: "regtest".to_owned(), node_id: String::new(), auto_cancel_margin: 39 },
        at: NOW,
    };
    match Trade::open(&Logged::Opened(Box::new(opening))).unwrap() {
        Trade::Arbiter(arbiter) => *arbiter,
        other => panic!("{other:?}"),
    }
}

/// The same in `state`, after what was `said`.
fn served(state: ArbiterState, said: &[(u8, Step)]) -> Arbiter {
    let mut arbiter = asked();
    let all = [(3, Step::Appointment(0))].iter().chain(said).enumerate();
    let word =
        |(n, (by, step)): (usize, &(u8, Step))| Said { author: party(*by), step: *step, id: MessageId([n as u8; 32]) };
    arbiter.dossier.said = all.map(word).collect();
    arbiter.state = state;
    arbiter
}

fn locked(state: ArbiterState, said: &[(u8, Step)]) -> Arbiter {
    let mut arbiter = served(state, said);
    arbiter.locked_from.push((0, Height(800_000)));
    arbiter
}

fn ruled(payee_tranches: u8) -> Arbiter {
    let mut arbiter = locked(closed(Outcome::Ruled), &[(1, Step::Dispute), (3, Step::Ruling)]);
    arbiter.dossier.ruling = Some(Ruling {
        trade: TradeId([1; 32]),
        dispute: MessageId([1; 32]),
        payee_tranches,
        payer_bond: BondFate::Return,
        payee_bond: BondFate::Return,
        resolution: String::new(),
        secrets: Vec::new(),
    });
    arbiter
}

fn closed(outcome: Outcome) -> ArbiterState {
    ArbiterState::Closed { outcome }
}

fn paid(mut arbiter: Arbiter, amount: u64, state: FeeState) -> Arbiter {
    arbiter.dossier.fee = Some(Fee { amount: Sat(amount), bill: None, state });
    arbiter
}

fn counted(trades: &[Arbiter]) -> Service {
    Service::of(trades, |_| None)
}

#[test]
fn every_way_in_which_a_trade_can_end_for_its_arbiter_has_its_place() {
    let one = |trade: Arbiter| counted(&[trade]);
    let appointed = Service { appointed: 1, ..Service::default() };
    let held = Service { locked: 1, ..appointed.clone() };
    let disputed = Service { disputed: 1, ..held.clone() };
    let dispute: &[(u8, Step)] = &[(2, Step::Dispute)];
    let received: &[(u8, Step)] = &[(2, Step::Dispute), (1, Step::Receipt)];

    assert_eq!(one(asked()), Service::default(), "it has not said that it serves");
    assert_eq!(one(served(ArbiterState::Serving { until: NOW }, &[])), appointed);
    assert_eq!(one(served(closed(Outcome::Unneeded), &[])), appointed, "no money was ever locked");
    assert_eq!(one(locked(ArbiterState::Shipped, &[])), held, "still open");
    let quiet = Service { quiet: 1, ..held.clone() };
    for outcome in [Outcome::Unneeded, Outcome::Defaulted] {
        assert_eq!(one(locked(closed(outcome), &[])), quiet);
    }
    assert_eq!(one(locked(closed(Outcome::Missed), &[])), Service { missed_defaults: 1, ..held.clone() });
    assert_eq!(one(locked(closed(Outcome::Missed), &received[1..])), quiet, "the buyer had confirmed");

    let open = ArbiterState::Disputed { by: Role::Payee, dispute: MessageId([1; 32]) };
    assert_eq!(one(locked(open, dispute)), disputed);
    assert_eq!(one(locked(closed(Outcome::Missed), dispute)), Service { missed: 1, ..disputed.clone() });
    let withdrawn = Service { withdrawn: 1, ..disputed.clone() };
    assert_eq!(one(locked(closed(Outcome::Unneeded), dispute)), withdrawn);
    assert_eq!(one(locked(closed(Outcome::Missed), received)), withdrawn);
    assert_eq!(one(ruled(0)), Service { for_payer: 1, ..disputed.clone() });
    assert_eq!(one(ruled(4)), Service { for_payee: 1, ..disputed.clone() });
    assert_eq!(one(ruled(3)), Service { split: 1, ..disputed });
}

#[test]
fn only_a_fee_that_arrived_is_earned_and_only_a_ruling_took_time() {
    let unlocked = served(closed(Outcome::Unneeded), &[]);
    let trades = [
        paid(ruled(0), 300, FeeState::Paid),
        paid(ruled(4), 300, FeeState::Unpaid),
        paid(unlocked, 50, FeeState::Paid),
        locked(closed(Outcome::Defaulted), &[]),
    ];
    let service = Service::of(&trades, |arbiter| Some(if arbiter.dossier.ruling.is_some() { 90 } else { 7 }));
    assert_eq!((service.fees, service.secs), (Sat(350), Some(Times { median: 90, worst: 90 })));
    let times = std::cell::Cell::new(0);
    let later = |_: &Arbiter| Some(times.replace(times.get() + 10));
    let four: Vec<_> = (0..4).map(|_| ruled(1)).collect();
    assert_eq!(Service::of(&four, later).secs, Some(Times { median: 20, worst: 30 }));
}

fn claim() -> Claim {
    let service = Service {
        appointed: 12,
        locked: 9,
        quiet: 4,
        disputed: 4,
        for_payer: 1,
        for_payee: 1,
        split: 1,
        withdrawn: 1,
        secs: Some(Times { median: HOUR + 1, worst: 5 * HOUR }),
        fees: Sat(2_718),
        ..Service::default()
    };
    Claim {
        arbiter: party(3),
        at: NOW,
        policy: "By what both can show".to_owned(),
        fee: Sat(250),
        fee_ppm: 5000,
        service,
    }
}

fn signed(change: impl FnOnce(&mut Unsigned)) -> Event {
    let mut unsigned = claim().event();
    change(&mut unsigned);
    unsigned.sign(&key(3), &[0; 32])
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Unsigned) {
    move |unsigned| unsigned.tags.iter_mut().find(|tag| tag[0] == name).unwrap()[1] = value.to_owned()
}

#[test]
fn a_claim_is_read_as_it_was_made_but_for_what_is_rounded() {
    let read = Claim::read(&signed(|_| ())).unwrap();
    assert_eq!(read, claim().rounded());
    assert_eq!((read.service.fees, read.service.secs), (Sat(2_000), Some(Times { median: 2 * HOUR, worst: 5 * HOUR })));
    let first = Claim { service: Service::default(), ..claim() };
    assert_eq!(Claim::read(&first.event().sign(&key(3), &[0; 32])).unwrap(), first);
    let text = signed(|_| ()).to_json();
    for secret in [party(1).to_string(), party(2).to_string(), facts().hash.to_string()] {
        assert!(!text.contains(&secret));
    }
}

#[test]
fn what_is_signed_by_another_or_changed_later_is_no_claim() {
    let stolen = claim().event().sign(&key(4), &[0; 32]);
    assert_eq!(Claim::read(&stolen).unwrap().arbiter, party(4), "whoever signs speaks of itself");
    let mut changed = signed(|_| ());
    changed.tags[4][1] = "13".to_owned();
    assert!(matches!(Claim::read(&changed), Err(Reject::Forged(_))));
}

#[test]
fn a_claim_at_odds_with_itself_or_out_of_bounds_is_refused_with_the_reason() {
    let why = |change: &dyn Fn(&mut Unsigned)| match Claim::read(&signed(change)) {
        Err(Reject::Claim(why)) => why,
        other => panic!("{other:?}"),
    };
    let value = |name: &'static str, value: &'static str| why(&move |u| set(name, value)(u));
    for (name, more) in
        [("locked", "13"), ("quiet", "6"), ("disputed", "6"), ("split", "2"), ("missed", "1"), ("fees", "2718")]
    {
        assert_eq!(value(name, more), "its numbers do not add up", "{name}");
    }
    for (name, wrong) in [
        ("d", "x"),
        ("appointed", "012"),
        ("appointed", "-1"),
        ("appointed", "1000000001"),
        ("fee_ppm", "1000001"),
        ("fee", "1e3"),
        ("hours", "x"),
    ] {
        assert_eq!(value(name, wrong), name, "{wrong}");
    }
    assert_eq!(value("hours", "10001"), "hours");
    assert_eq!(value("hours", "6"), "its numbers do not add up");
    assert_eq!(why(&|u| u.tags.retain(|tag| tag[0] != "split")), "split");
    assert_eq!(why(&|u| u.tags.push(vec!["p".to_owned(), "x".to_owned()])), "an unknown tag");
    assert_eq!(why(&|u| u.tags.push(vec!["split".to_owned(), "0".to_owned()])), "a tag twice");
    assert_eq!(why(&|u| u.content = "x".repeat(reputation::POLICY_MAX + 1)), "no claim");
    assert_eq!(why(&|u| u.kind = 30_322), "no claim");
}

proptest! {
    #[test]
    fn no_tags_that_anybody_signs_make_a_reader_panic(
        tags in prop::collection::vec(prop::collection::vec("[a-z_]{0,9}|[0-9]{0,20}", 1..4), 0..20),
    ) {
        let event = signed(|unsigned| unsigned.tags.extend(tags.clone()));
        let alone = signed(|unsigned| unsigned.tags = tags);
        prop_assert!(Claim::read(&alone).is_err());
        drop(Claim::read(&event));
    }
}
