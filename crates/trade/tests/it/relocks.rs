//! Re-locks: the new legs are held before the old ones go back, and the price is never paid twice.

use trade::{BondFate, Command, LegId, Outcome, Step};
use units::Height;

use crate::story::{ARBITER, Hold, PAYEE, PAYER, Story, accept, bonded, direct, dispute, release, rule};

fn asked(terms: trade::EscrowTerms) -> Story {
    let mut story = Story::shipped(terms);
    story.blocks(400);
    let payment_hashes = story.price_hashes(1);
    story.want(PAYER, Command::Relock { payment_hashes });
    if !story.terms.arbiters.is_empty() {
        let serve = story.serve_command(1);
        story.want(ARBITER, serve);
    }
    story
}

#[test]
fn money_moves_to_a_later_lock_and_the_first_goes_back() {
    for terms in [bonded(), direct()] {
        let mut story = asked(terms);
        let before = story.trade(PAYEE).deadlines().expect("locked");
        story.want(PAYEE, accept());
        assert_eq!(story.states()[..2], ["Shipped", "Shipped"]);
        let after = story.trade(PAYEE).deadlines().expect("locked");
        assert_eq!(after.hard.0 - before.hard.0, 400);
        assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Canceled));
        assert_eq!(story.hold(LegId::price(1, 0)), Some(&Hold::Held(Height(2120))));
        // Beyond the end of the first lock.
        story.until(before.expiry.plus(10));
        assert_eq!(story.states()[..2], ["Shipped", "Shipped"]);
        story.want(PAYER, release());
        assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
        story.assert_over();
        story.assert_replays();
    }
}

#[test]
fn the_old_legs_stay_until_every_new_one_is_held() {
    let mut story = asked(bonded());
    story.blocked.push((PAYER, |e| matches!(e, trade::Effect::PayInvoice { leg, .. } if leg.leg == trade::Leg::Price)));
    story.want(PAYEE, accept());
    assert!(matches!(story.hold(LegId::price(0, 0)), Some(Hold::Held(_))));
    story.blocks(13);
    assert_eq!(story.hold(LegId::payer_bond(1)), Some(&Hold::Canceled), "what came of the re-lock goes back in time");
    assert!(matches!(story.hold(LegId::payer_bond(0)), Some(Hold::Held(_))));
    story.blocked.clear();
    story.go();
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

#[test]
fn a_dispute_ends_a_re_lock_that_is_under_way() {
    let mut story = asked(bonded());
    story.blocked.push((PAYER, |e| matches!(e, trade::Effect::PayInvoice { .. })));
    story.want(PAYEE, accept());
    story.want(PAYER, dispute());
    story.blocked.clear();
    story.go();
    assert_eq!(story.states(), ["Disputed", "Disputed", "Disputed"]);
    story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Settled));
    story.assert_over();
}

#[test]
fn the_arbiter_rules_on_the_lock_that_the_payee_says_it_moved_to() {
    let mut story = asked(bonded());
    story.want(PAYEE, accept());
    story.want(PAYER, dispute());
    story.want(ARBITER, rule(1, BondFate::Return, BondFate::Forfeit));
    assert_eq!(story.hold(LegId::price(1, 0)), Some(&Hold::Settled));
    assert_eq!(story.hold(LegId::payee_bond(1)), Some(&Hold::Settled));
    assert_eq!(story.outcomes(), [Some(Outcome::Split { payee_tranches: 1 }); 2]);
    story.assert_over();
}

#[test]
fn a_release_that_crosses_a_finished_re_lock_still_pays_once() {
    let mut story = asked(bonded());
    story.deaf.push(PAYER);
    story.want(PAYEE, accept());
    story.deaf.clear();
    // The payer confirms, then hears nothing of the payee's last word and releases the first lock.
    story.blocked.push((PAYEE, |e| matches!(e, trade::Effect::Send(o) if o.step == Step::Shipment(1))));
    story.go();
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Canceled));
    story.want(PAYER, release());
    story.blocked.clear();
    story.go();
    assert_eq!(story.hold(LegId::price(1, 0)), Some(&Hold::Settled));
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

#[test]
fn a_price_of_which_a_part_was_stolen_is_not_locked_again() {
    let mut story = Story::shipped(bonded());
    let secret = story.secret(PAYER, LegId::price(0, 0));
    story.steal(PAYER, secret);
    let payment_hashes = story.price_hashes(1);
    let refused = story.try_want(PAYER, Command::Relock { payment_hashes });
    assert_eq!(refused.map_err(|r| r.rule.code()), Err("wrong-state"));

    // Stolen while the re-lock is under way: it ends there, and the rest of the price stays where it is.
    let mut story = asked(bonded());
    story.blocked.push((PAYER, |e| matches!(e, trade::Effect::PayInvoice { leg, .. } if leg.leg == trade::Leg::Price)));
    story.want(PAYEE, accept());
    let secret = story.secret(PAYER, LegId::price(0, 0));
    story.steal(PAYER, secret);
    story.blocked.clear();
    story.go();
    assert_eq!(story.trade(PAYER).dossier().round, 0);
    assert_eq!(story.trade(PAYEE).dossier().round, 0);
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Settled));
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_over();
}

#[test]
fn a_trade_is_locked_again_at_most_three_times_and_only_with_fresh_hashes() {
    let mut story = Story::shipped(direct());
    let old = story.price_hashes(0);
    let reused = story.try_want(PAYER, Command::Relock { payment_hashes: old });
    assert_eq!(reused.map_err(|r| r.rule.code()), Err("hash-reused"));
    for round in 1..=3 {
        let payment_hashes = story.price_hashes(round);
        story.want(PAYER, Command::Relock { payment_hashes });
        story.want(PAYEE, accept());
        assert_eq!(story.trade(PAYER).dossier().round, round);
    }
    let payment_hashes = story.price_hashes(4);
    let fourth = story.try_want(PAYER, Command::Relock { payment_hashes });
    assert_eq!(fourth.map_err(|r| r.rule.code()), Err("too-many"));
}
