//! A liar says its word to one reader and keeps it from the other, or leaves out what belongs to it. The simulator's liars found each of
//! these, and each cost an honest party its money.

use super::*;

/// `who` says something that all but those in `to` never hear, and these only when they are handed it.
fn whispered(story: &mut Story, who: usize, command: Command, step: Step, to: usize) -> Envelope {
    story.deaf.extend([PAYER, PAYEE, ARBITER]);
    story.want(who, command);
    let envelope = story.envelope(to, who, step);
    for reader in [PAYER, PAYEE, ARBITER] {
        story.drop_mail(reader, key(who));
    }
    story.deaf.clear();
    envelope
}

#[test]
fn a_receipt_without_secrets_pays_nobody_and_silences_nobody() {
    let mut story = Story::shipped(bonded());
    let mut receipt = whispered(&mut story, PAYER, release(), Step::Receipt, PAYEE);
    receipt.message.set_secrets(Vec::new());
    story.hear(ARBITER, receipt.clone()).expect("taken");
    story.hear(PAYEE, receipt).expect("taken");
    assert_eq!(story.states()[1..], ["Released", "Shipped"], "the arbiter does not know whether secrets came with it");
    story.want(PAYEE, dispute());
    assert_eq!(story.states()[1..], ["Disputed", "Disputed"]);
    story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Settled));
}

#[test]
fn after_a_receipt_without_secrets_silence_still_releases() {
    let mut story = Story::shipped(bonded());
    let mut receipt = whispered(&mut story, PAYER, release(), Step::Receipt, PAYEE);
    receipt.message.set_secrets(Vec::new());
    story.hear(ARBITER, receipt.clone()).expect("taken");
    story.hear(PAYEE, receipt).expect("taken");
    story.until(story.trade(PAYEE).deadlines().expect("held").hard.minus(1));
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Settled));
}

#[test]
fn secrets_in_a_second_receipt_are_used_though_the_word_counts_for_nothing() {
    let mut story = Story::shipped(bonded());
    let whole = whispered(&mut story, PAYER, release(), Step::Receipt, PAYEE);
    let mut first = whole.clone();
    first.id.0[31] ^= 1;
    first.message.set_secrets(Vec::new());
    story.hear(PAYEE, first).expect("taken");
    story.hear(PAYEE, whole).expect("learned from");
    story.go();
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Settled));
}

#[test]
fn who_was_told_of_a_dispute_may_tell_the_arbiter_itself() {
    for (liar, honest) in [(PAYER, PAYEE), (PAYEE, PAYER)] {
        let mut story = Story::shipped(bonded());
        let word = whispered(&mut story, liar, dispute(), Step::Dispute, honest);
        story.hear(honest, word).expect("taken");
        assert_eq!(story.states()[ARBITER], "Shipped");
        story.want(honest, dispute());
        assert_eq!(story.states()[ARBITER], "Disputed");
        assert_eq!(story.try_want(honest, dispute()).map_err(|r| r.rule.code()), Err("wrong-state"), "once is enough");
    }
}

#[test]
fn secrets_of_a_ruling_on_a_dispute_that_was_kept_from_us_are_used() {
    let mut story = Story::shipped(bonded());
    let word = whispered(&mut story, PAYER, dispute(), Step::Dispute, ARBITER);
    story.hear(ARBITER, word).expect("taken");
    story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Settled));
}

#[test]
fn a_refund_in_words_only_may_be_disputed() {
    let word = {
        let mut elsewhere = Story::shipped(bonded());
        whispered(&mut elsewhere, PAYEE, refund(), Step::Refund, PAYER)
    };
    let mut story = Story::shipped(bonded());
    story.hear(PAYER, word).expect("taken");
    assert_eq!(story.states()[PAYER], "Winding");
    let warn = story.trade(PAYER).deadlines().expect("paid").warn;
    story.until(warn);
    let rule_at = story.trade(PAYER).deadlines().expect("paid").rule;
    let warned =
        |story: &Story| story.trade(PAYER).dossier().notices.iter().any(|n| n.0 == Notice::DeadlineNear { rule_at });
    assert!(warned(&story));
    story.want(PAYER, dispute());
    story.want(ARBITER, rule(0, BondFate::Return, BondFate::Forfeit));
    assert_eq!(story.outcomes(), [Some(Outcome::Refunded); 2]);
}

#[test]
fn a_confirmation_that_claims_no_height_is_no_reason_to_ship() {
    let mut story = Story::bid(arbitrated());
    let mut word = whispered(&mut story, PAYEE, accept(), Step::Acceptance(0), PAYER);
    word.at = story.now.unix;
    story.deaf.push(PAYEE);
    story.hear(PAYER, word).expect("taken");
    story.go();
    let mut word = story.envelope(PAYEE, PAYER, Step::PaymentConfirmation(0));
    story.drop_mail(PAYEE, key(PAYER));
    story.deaf.clear();
    if let Message::PaymentConfirmation(m) = &mut word.message {
        m.paid_height = None;
    }
    story.hear(PAYEE, word).expect("taken");
    story.go();
    assert_eq!(story.states()[PAYEE], "Held");
    assert_eq!(story.try_want(PAYEE, ship()).map_err(|r| r.rule.code()), Err("lock-too-short"));
}

/// The payer pays, tells the payee so, and tells the arbiter something else.
fn two_faced(terms: EscrowTerms, claims: Option<u32>) -> Story {
    let mut story = Story::bid(terms);
    story.deaf.push(ARBITER);
    story.want(PAYEE, accept());
    let mut other = story.envelope(PAYEE, PAYER, Step::PaymentConfirmation(0));
    story.drop_mail(ARBITER, key(PAYER));
    story.deaf.clear();
    assert_eq!(story.states(), ["Held", "Held", "Serving"]);
    other.id.0[31] ^= 1;
    if let (Message::PaymentConfirmation(m), Some(ago)) = (&mut other.message, claims) {
        m.paid_height = Some(story.now.height.minus(ago));
        story.hear(ARBITER, other).expect("taken");
    }
    story
}

#[test]
fn the_payee_shows_the_arbiter_which_payment_it_was_told_of() {
    // Another word, one of a lock that has ended, or none at all.
    for claims in [Some(0), Some(5000), None] {
        let mut story = two_faced(bonded(), claims);
        story.go();
        let deaf = match claims {
            Some(0) => "Held",
            Some(_) => "Closed",
            None => "Serving",
        };
        assert_eq!(story.states()[ARBITER], deaf, "{claims:?}");
        story.want(PAYEE, ship());
        assert_eq!(story.states()[ARBITER], "Shipped", "{claims:?}");
        let signed_twice = story.trade(ARBITER).dossier().evidence.len();
        assert_eq!(signed_twice, usize::from(claims.is_some()), "what the payer signed twice is kept");
        story.want(PAYEE, dispute());
        story.want(ARBITER, rule(2, BondFate::Return, BondFate::Return));
        assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Settled), "{claims:?}");
        story.assert_replays();
    }
}

#[test]
fn an_arbiter_reckons_with_the_lock_that_the_payee_relies_on() {
    let mut story = two_faced(bonded(), Some(400));
    story.want(PAYEE, ship());
    assert_eq!(story.trade(ARBITER).deadlines().map(|d| d.expiry), story.trade(PAYEE).deadlines().map(|d| d.expiry));
    // Silence releases: at the height that the payee knows of.
    story.until(story.trade(PAYEE).deadlines().expect("held").hard.minus(1));
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Settled));
}

#[test]
fn only_the_payee_changes_what_the_payer_said_and_only_once() {
    let mut story = two_faced(bonded(), Some(0));
    story.want(PAYEE, ship());
    let deadlines = story.trade(ARBITER).deadlines();
    let mut third = story.envelope(PAYEE, PAYER, Step::PaymentConfirmation(0));
    third.id.0[30] ^= 1;
    if let Message::PaymentConfirmation(m) = &mut third.message {
        m.paid_height = Some(story.now.height.minus(300));
    }
    for via in [None, Some(key(PAYER)), Some(key(PAYEE))] {
        let _kept_as_evidence = story.hear(ARBITER, Envelope { via, ..third.clone() });
        assert_eq!(story.trade(ARBITER).deadlines(), deadlines, "{via:?}");
    }
}

#[test]
fn a_confirmation_of_another_hash_confirms_nothing() {
    let mut word = Story::held(bonded()).envelope(PAYEE, PAYER, Step::PaymentConfirmation(0));
    let mut story = Story::bid(bonded());
    if let Message::PaymentConfirmation(m) = &mut word.message {
        m.payment_proof.0[0] ^= 1;
    }
    story.blocked.push((PAYER, |effect| matches!(effect, Effect::Send(o) if o.step == Step::PaymentConfirmation(0))));
    story.want(PAYEE, accept());
    assert_eq!(story.hear(PAYEE, word).map_err(|r| r.rule.code()), Err("terms-mismatch"));
    assert_eq!(story.states()[PAYEE], "Locking");
}
