//! The desk: routing, early messages, stock, sequence numbers, damaged logs.

use trade::{Command, Desk, Entry, Event, Input, OwnNode, Step, TradeId};
use units::Sat;

use crate::story::{PAYEE, PAYER, Story, accept, bonded, direct, key, listing, message_id, refund, release, ship};

fn own_node() -> OwnNode {
    OwnNode { network: "regtest".to_owned(), node_id: "02".to_owned(), auto_cancel_margin: 39 }
}

/// Another payer bids on the same listing.
fn second_bid(story: &mut Story) -> TradeId {
    let mut bid = story.envelope(PAYEE, PAYER, Step::Bid(0));
    bid.author = trade::PartyKey([77; 32]);
    bid.id.0[0] ^= 1;
    if let trade::Message::Bid(m) = &mut bid.message {
        m.payment_hashes[0].0[0] ^= 1;
    }
    let id = TradeId::of(message_id(key(PAYEE), Step::Listing(0)), bid.author);
    story.hear(PAYEE, bid).expect("a bid");
    id
}

#[test]
fn the_first_accepted_bid_wins_while_stock_lasts() {
    let mut story = Story::bid(direct());
    let second = second_bid(&mut story);
    story.want(PAYEE, accept());
    let code = |story: &mut Story| story.feed(PAYEE, second, Input::Command(accept())).map_err(|r| r.rule.code());
    assert_eq!(code(&mut story), Err("sold-out"));
    // The first trade comes to nothing before anything was shipped: the lamp is there again.
    story.want(PAYEE, refund());
    assert!(code(&mut story).is_ok());
}

#[test]
fn goods_that_went_out_are_gone_even_when_the_money_went_back() {
    let mut story = Story::bid(direct());
    let second = second_bid(&mut story);
    story.want(PAYEE, accept());
    story.want(PAYEE, ship());
    story.want(PAYEE, refund());
    let refused = story.feed(PAYEE, second, Input::Command(accept()));
    assert_eq!(refused.map_err(|r| r.rule.code()), Err("sold-out"));
    story
        .feed(PAYEE, TradeId::of_stall(key(PAYEE), "lamp"), Input::Command(Command::Restock { stock: 2 }))
        .expect("fine");
    assert!(story.feed(PAYEE, second, Input::Command(accept())).is_ok());
}

#[test]
fn stock_counts_pieces_and_is_never_sold_twice() {
    let mut story = Story::listed(direct());
    let stall = TradeId::of_stall(key(PAYEE), "lamp");
    story.feed(PAYEE, stall, Input::Command(Command::Restock { stock: 5 })).expect("fine");
    let order = trade::BidOrder { quantity: 3, ..story.bid_order() };
    story.want(PAYER, Command::Bid(Box::new(order)));
    let second = second_bid(&mut story);
    story.want(PAYEE, accept());
    assert_eq!(story.desks[PAYEE].taken(stall, None), 3);
    let code = |story: &mut Story| story.feed(PAYEE, second, Input::Command(accept())).map_err(|r| r.rule.code());
    assert_eq!(code(&mut story), Err("sold-out"), "three and three are more than five");
    story.feed(PAYEE, stall, Input::Command(Command::Restock { stock: 6 })).expect("fine");
    assert!(code(&mut story).is_ok());
    assert_eq!(story.desks[PAYEE].taken(stall, None), 6);
}

#[test]
fn what_the_desk_keeps_beside_its_trades_says_what_a_look_at_all_of_them_would() {
    let check = |desk: &Desk, now| {
        let ids = |trades: Vec<&trade::Trade>| trades.iter().map(|trade| trade.id()).collect::<Vec<_>>();
        let open = desk.trades().filter(|trade| trade.outcome().is_none());
        assert_eq!(ids(desk.open_trades().collect()), ids(open.collect()));
        let ticks =
            |trade: &&trade::Trade| trade.outcome().is_none() && !trade.step(&Input::Tick, now).events.is_empty();
        assert_eq!(desk.due(now).map(|append| append.stream), desk.trades().find(ticks).map(|trade| trade.id()));
        for (stall, _) in desk.stalls() {
            let of_stall = |id| desk.stall_of(id).is_some_and(|(known, _)| known == stall);
            let on = desk.trades().filter(|trade| of_stall(trade.dossier().opening.listing));
            assert_eq!(ids(desk.trades_on(stall).collect()), ids(on.collect()));
        }
    };
    // Two bids, one of which is accepted, shipped, released; a newer version; and what becomes of the other one in time.
    let mut story = Story::bid(direct());
    let second = second_bid(&mut story);
    let stall = TradeId::of_stall(key(PAYEE), "lamp");
    let dearer = trade::Listing { price: Sat(30_000), ..listing(direct()) };
    let newer = Command::List { me: key(PAYEE), listing: Box::new(dearer), stock: 1 };
    story.feed(PAYEE, stall, Input::Command(newer)).expect("fine");
    story.go();
    for (who, command) in [(PAYEE, accept()), (PAYEE, ship()), (PAYER, release())] {
        story.want(who, command);
        story.desks.iter().for_each(|desk| check(desk, story.now));
    }
    let mut late = story.now;
    late.unix.0 += 365 * 86_400;
    assert_eq!(story.desks[PAYEE].due(late).map(|append| append.stream), Some(second), "it lapses");
    story.desks.iter().for_each(|desk| check(desk, late));
    for log in &story.log {
        check(&Desk::replay(own_node(), log.clone()).0, late);
    }
}

#[test]
fn a_bid_for_more_than_there_is_opens_nothing() {
    let mut story = Story::listed(direct());
    let order = trade::BidOrder { quantity: 2, ..story.bid_order() };
    story.want(PAYER, Command::Bid(Box::new(order)));
    assert_eq!(story.states()[..2], ["Bid", "-"]);
}

#[test]
fn a_newer_listing_closes_the_older_for_new_takers_only() {
    let mut story = Story::bid(direct());
    let stall = TradeId::of_stall(key(PAYEE), "lamp");
    let dearer = trade::Listing { price: Sat(30_000), ..listing(direct()) };
    story
        .feed(PAYEE, stall, Input::Command(Command::List { me: key(PAYEE), listing: Box::new(dearer), stock: 1 }))
        .expect("fine");
    story.go();
    let mut late = story.envelope(PAYEE, PAYER, Step::Bid(0));
    late.author = trade::PartyKey([77; 32]);
    late.id.0[0] ^= 1;
    assert_eq!(story.hear(PAYEE, late).map_err(|r| r.rule.code()), Err("listing-closed"));
    story.want(PAYEE, accept());
    assert_eq!(story.states()[..2], ["Held", "Held"], "a running trade stays bound to the listing it took");
}

#[test]
fn two_versions_listed_in_one_second_are_not_of_the_same_second() {
    let mut story = Story::listed(direct());
    let stall = TradeId::of_stall(key(PAYEE), "lamp");
    let mut listed_at = |price| {
        let listing = trade::Listing { price: Sat(price), ..listing(direct()) };
        let list = Command::List { me: key(PAYEE), listing: Box::new(listing), stock: 1 };
        let events = story.feed(PAYEE, stall, Input::Command(list)).expect("fine");
        story.go();
        let [trade::Event::ListingOrdered { at, .. }] = events[..] else { panic!("not {events:?}") };
        at
    };
    let (first, second) = (listed_at(30_000), listed_at(31_000));
    assert!(first < second, "whoever reads them takes the later one, and of equals one by chance");
}

#[test]
fn a_delisted_listing_takes_no_bids() {
    let mut story = Story::listed(direct());
    let stall = TradeId::of_stall(key(PAYEE), "lamp");
    story.feed(PAYEE, stall, Input::Command(Command::Delist { reason: "gone".to_owned() })).expect("fine");
    story.go();
    let said = story.said.last().expect("said");
    let trade::Message::Delisting(word) = &said.message else { panic!("not {said:?}") };
    assert_eq!(word.listings, [message_id(key(PAYEE), Step::Listing(0))]);
    story.open();
    assert_eq!(story.states()[..2], ["Bid", "-"]);
}

#[test]
fn messages_that_come_too_early_are_kept_until_their_time() {
    let mut story = Story::shipped(bonded());
    story.want(PAYER, release());
    let mut fresh = Story::listed(bonded());
    // The arbiter's and the payer's words reach the payee in exactly the wrong order.
    let said: Vec<trade::Envelope> =
        story.heard.iter().filter(|(who, _)| *who == PAYEE).map(|(_, e)| e.clone()).collect();
    assert!(said.len() >= 5);
    let first = said.iter().position(|e| matches!(e.message, trade::Message::Bid(_))).expect("a bid");
    for envelope in said.iter().enumerate().rev().filter(|(i, _)| *i != first).map(|(_, e)| e) {
        assert_eq!(fresh.hear(PAYEE, envelope.clone()).map_err(|r| r.rule.code()), Err("out-of-order"));
    }
    fresh.hear(PAYEE, said[first].clone()).expect("the bid");
    fresh.go();
    let d = fresh.trade(PAYEE).dossier();
    assert!(d.said(trade::Role::Arbiter, Step::Appointment(0)).is_some(), "the appointment was waiting for the bid");
}

#[test]
fn one_author_cannot_fill_the_room_for_early_messages() {
    let story = Story::shipped(bonded());
    let receipt = {
        let mut story = Story::shipped(bonded());
        story.want(PAYER, release());
        story.envelope(PAYEE, PAYER, Step::Receipt)
    };
    let mut desk = story.desks[PAYEE].clone();
    for n in 0..10_000u32 {
        let mut stray = receipt.clone();
        stray.id.0[..4].copy_from_slice(&n.to_le_bytes());
        if let trade::Message::Receipt(m) = &mut stray.message {
            m.payment.0[..4].copy_from_slice(&n.to_le_bytes());
        }
        stray.prev = None;
        assert!(desk.receive(stray, story.now).is_err());
    }
    assert!(desk.early_messages() <= 32, "{}", desk.early_messages());
}

#[test]
fn a_hash_of_another_trade_is_refused() {
    let mut story = Story::bid(direct());
    let mut bid = story.envelope(PAYEE, PAYER, Step::Bid(0));
    bid.author = trade::PartyKey([77; 32]);
    bid.id.0[0] ^= 1;
    assert_eq!(story.hear(PAYEE, bid).map_err(|r| r.rule.code()), Err("hash-reused"));
}

#[test]
fn a_decision_made_on_an_old_view_does_not_fit_the_log() {
    let story = Story::held(direct());
    let first = story.desks[PAYEE].handle(story.id, &Input::Command(ship()), story.now).expect("fine");
    let second = story.desks[PAYEE].handle(story.id, &Input::Command(refund()), story.now).expect("fine");
    assert_eq!(first.expected_seq, second.expected_seq, "the log accepts only one of the two");
    let mut desk = story.desks[PAYEE].clone();
    desk.commit(first).expect("the first fits");
    assert!(desk.commit(second).is_err(), "the second would break the chain");
}

#[test]
fn a_damaged_log_stops_its_trade_and_no_other() {
    let story = Story::shipped(direct());
    let mut entries: Vec<Entry> = story.log[PAYEE].clone();
    let gap = entries.iter().position(|e| e.stream == story.id && e.seq == 3).expect("long enough");
    entries.remove(gap);
    let (desk, damaged) = Desk::replay(own_node(), entries);
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].0, story.id);
    assert!(desk.stall(TradeId::of_stall(key(PAYEE), "lamp")).is_some());
    let refused = desk.handle(story.id, &Input::Tick, story.now);
    assert_eq!(refused.map(|_| ()).map_err(|r| r.rule.code()), Err("wrong-state"));
}

#[test]
fn an_event_that_does_not_fit_is_an_error_not_a_panic() {
    let story = Story::bid(direct());
    let trade = story.trade(PAYER).clone();
    let misfit = Event::Closed { outcome: trade::Outcome::Settled };
    let why = trade.apply(&misfit).expect_err("not yet");
    assert_eq!((why.event.as_str(), why.state), ("Closed", "Bid"));
}
