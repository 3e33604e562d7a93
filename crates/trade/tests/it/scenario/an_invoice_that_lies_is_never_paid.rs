//! Scenario 6: the acceptance has an invoice on another hash, amount, node, network, CLTV, or one that cannot be paid. The payer
//! refuses before any money moves and keeps the signed message as evidence.

use super::*;

/// What is changed in an invoice.
type Lie = fn(&mut InvoiceFacts);

#[test]
fn an_invoice_that_breaks_a_rule_is_never_paid_and_is_kept() {
    let lies: [(Rule, Lie); 8] = [
        (Rule::InvoiceHash, |f| f.hash.0[0] ^= 1),
        (Rule::InvoiceAmount, |f| f.amount = f.amount.map(|a| Msat(a.0 + 1))),
        (Rule::InvoiceAmount, |f| f.amount = None),
        (Rule::InvoicePayee, |f| f.payee = node_id(7)),
        (Rule::InvoiceNetwork, |f| f.network = "bitcoin".to_owned()),
        (Rule::InvoiceExpired, |f| f.expires_at = Unix(1_700_000_030)),
        (Rule::InvoiceCltv, |f| f.min_final_cltv = 719),
        (Rule::InvoiceFeatures, |f| f.features_known = false),
    ];
    for (rule, lie) in lies {
        let mut story = Story::bid(bonded());
        story.tamper = Some(lie);
        story.want(PAYEE, accept());
        assert!(story.payments.is_empty(), "{rule}: something was paid");
        assert!(story.alarmed(PAYER, &Notice::InvoiceRefused { rule }), "{rule}: {:?}", story.shown);
        assert_eq!(story.trade(PAYER).dossier().evidence[0].0, rule);
        assert_eq!(story.trade(PAYER).outcome(), Some(Outcome::Canceled));
        story.blocks(13);
        assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
        story.assert_replays();
    }
}

#[test]
fn an_invoice_that_pays_our_own_node_or_locks_too_long_is_refused() {
    let lies: [(Rule, Lie); 2] =
        [(Rule::InvoicePayee, |f| f.payee = node_id(PAYER)), (Rule::InvoiceCltv, |f| f.min_final_cltv = 739)];
    for (rule, lie) in lies {
        let mut story = Story::bid(direct());
        story.tamper = Some(lie);
        story.want(PAYEE, accept());
        assert!(story.alarmed(PAYER, &Notice::InvoiceRefused { rule }));
    }
}

#[test]
fn an_invoice_that_cannot_be_read_is_refused() {
    let mut story = Story::bid(direct());
    story.deaf.push(PAYER);
    story.want(PAYEE, accept());
    let mut acceptance = story.envelope(PAYER, PAYEE, Step::Acceptance(0));
    acceptance.invoices.clear();
    story.hear(PAYER, acceptance).expect("kept as evidence");
    story.go();
    assert!(story.alarmed(PAYER, &Notice::InvoiceRefused { rule: Rule::InvoiceUnreadable }));
}

#[test]
fn the_payee_checks_the_bond_invoice_in_the_same_way() {
    let mut story = Story::bid(bonded());
    story.deaf.push(PAYEE);
    story.want(PAYEE, accept());
    let mut bond = story.envelope(PAYEE, PAYER, Step::PayeeBondInvoice(0));
    bond.invoices[0].hash.0[0] ^= 1;
    story.hear(PAYEE, bond).expect("kept as evidence");
    story.go();
    assert!(story.alarmed(PAYEE, &Notice::InvoiceRefused { rule: Rule::InvoiceHash }));
    assert!(story.payments.is_empty());
    assert_eq!(story.trade(PAYEE).outcome(), Some(Outcome::Canceled));
}
