//! Scenario 34: the log is restored from an old backup while the node has moved on. Whatever the log lacks, nothing is settled without its
//! secret, nothing that is held is canceled before its time, and the money ends where it belongs.

use super::*;

#[test]
fn an_old_backup_never_settles_or_cancels_blindly() {
    let whole = {
        let mut story = Story::shipped(bonded());
        story.go();
        story.log[PAYEE].len()
    };
    for kept in 2..whole {
        let mut story = Story::shipped(bonded());
        story.log[PAYEE].truncate(kept);
        story.restart(PAYEE);
        let held = |story: &Story| story.holds.values().filter(|(hold, ..)| matches!(hold, Hold::Held(_))).count();
        let before = held(&story);
        story.look_up(PAYEE);
        for (_, effect) in story.desks[PAYEE].pending(story.now) {
            let blind = matches!(effect, Effect::Settle { .. } | Effect::Cancel { .. });
            assert!(!blind, "kept {kept} of {whole}: {effect:?}");
        }
        assert_eq!(held(&story), before, "kept {kept} of {whole}");
    }
}

/// The backup is from between the first invoice and the acceptance, and the node holds what was paid since.
fn behind() -> Story {
    behind_in(bonded())
}

fn behind_in(terms: EscrowTerms) -> Story {
    let mut story = Story::shipped(terms);
    let made = story.log[PAYEE].iter().position(|e| matches!(e.event, Event::InvoiceIssued { .. })).expect("made");
    story.log[PAYEE].truncate(made + 1);
    story.restart(PAYEE);
    story.look_up(PAYEE);
    story.go();
    story
}

#[test]
fn an_acceptance_is_said_again_in_the_same_words() {
    let mut story = Story::shipped(bonded());
    let first = story.said.iter().find(|o| o.step == Step::Acceptance(0)).cloned();
    let ordered =
        story.log[PAYEE].iter().position(|e| matches!(e.event, Event::AcceptOrdered { .. })).expect("accepted");
    story.log[PAYEE].truncate(ordered + 4);
    story.restart(PAYEE);
    story.blocks(2);
    let again = story.said.iter().rfind(|o| o.step == Step::Acceptance(0)).cloned();
    assert_eq!(again, first, "so that nobody has it twice");
}

#[test]
fn what_the_log_does_not_remember_is_held_with_an_alarm_until_the_rule_height() {
    let mut story = behind_in(EscrowTerms { on_silence: OnSilence::Refund, ..bonded() });
    let deadlines = story.trade(PAYEE).deadlines().expect("held");
    assert!(story.alarmed(PAYEE, &Notice::LogBehind { until: deadlines.rule }));
    story.until(deadlines.rule.minus(1));
    assert!(matches!(story.hold(LegId::price(0, 0)), Some(Hold::Held(_))));
    story.until(deadlines.rule);
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Canceled));
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
}

#[test]
fn the_default_on_silence_pays_though_the_log_remembers_no_shipment() {
    let mut story = behind();
    story.until(story.trade(PAYEE).deadlines().expect("held").rule.minus(1));
    assert_eq!(story.hold(LegId::price(0, 0)), Some(&Hold::Settled));
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Settled));
}

#[test]
fn a_secret_for_what_the_log_does_not_remember_is_used() {
    let mut story = behind();
    story.want(PAYER, release());
    for tranche in 0..2 {
        assert_eq!(story.hold(LegId::price(0, tranche)), Some(&Hold::Settled));
    }
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
    story.assert_replays();
}

#[test]
fn what_an_old_backup_lacks_comes_back_from_the_boards() {
    let mut story = Story::shipped(bonded());
    let entries = &story.log[PAYEE];
    let old = entries.iter().position(|e| matches!(e.event, Event::Locked { .. })).expect("locked");
    story.log[PAYEE].truncate(old);
    story.restart(PAYEE);
    let heard: Vec<Envelope> = story.heard.iter().filter(|(to, _)| *to == PAYEE).map(|(_, e)| e.clone()).collect();
    for envelope in heard {
        // Most are known, or mean nothing any more.
        let _known = story.hear(PAYEE, envelope).is_ok();
    }
    story.go();
    assert_eq!(story.states()[1], "Held");
    story.want(PAYER, release());
    assert_eq!(story.outcomes(), [Some(Outcome::Settled); 2]);
}
