//! A batch and its credentials, step by step, with a board of a few lines: whatever breaks off, nothing is lost, paid twice or shown twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use credential::quote::{Answer, Order, Request};
use credential::{KeysetSecret, Stamp};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use node::{PaymentId, PaymentState};
use secp256k1::{SECP256K1, SecretKey};
use units::{Msat, Preimage};
use wire::event::pubkey_of;

use super::batch::Next;
use super::policy::tests::{NOW, board, keyset};
use super::*;

const URL: &str = "ws://board";
const NETWORK: &str = "regtest";
const MASTER: [u8; 32] = [8; 32];

/// Sells what it is paid for.
struct Board {
    secret: KeysetSecret,
    keyset: Keyset,
    amount: Msat,
    expiry: Unix,
    final_cltv: u64,
    currency: Currency,
    order: Option<Order>,
    paid: bool,
}

impl Board {
    fn new() -> Board {
        let (secret, keyset) = keyset(30);
        let (amount, expiry) = (Msat(20_000), Unix(NOW.0 + 900));
        Board { secret, keyset, amount, expiry, final_cltv: 24, currency: Currency::Regtest, order: None, paid: false }
    }

    fn preimage() -> Preimage {
        Preimage::new([4; 32])
    }

    fn payment() -> PaymentId {
        Board::preimage().hash().into()
    }

    fn commitment(&self) -> [u8; 32] {
        self.order.as_ref().unwrap().commitment(&pubkey_of(&board()), self.amount, self.expiry)
    }

    fn invoice(&self, commitment: [u8; 32]) -> String {
        let key = SecretKey::from_slice(&[3; 32]).unwrap();
        let made = InvoiceBuilder::new(self.currency.clone())
            .description_hash(sha256::Hash::from_byte_array(commitment))
            .payment_hash(sha256::Hash::from_byte_array(Board::preimage().hash().0))
            .payment_secret(PaymentSecret([9; 32]))
            .duration_since_epoch(Duration::from_secs(NOW.0))
            .expiry_time(Duration::from_secs(self.expiry.0 - NOW.0))
            .amount_milli_satoshis(self.amount.0)
            .min_final_cltv_expiry_delta(self.final_cltv)
            .build_signed(|message| SECP256K1.sign_ecdsa_recoverable(message, &key));
        made.unwrap().to_string()
    }

    fn answers(&mut self, request: &Request) -> Answer {
        match request {
            Request::Quote(order) => {
                self.order = Some(order.clone());
                let (quote, commitment) = (order.quote(), self.commitment());
                Answer::Unpaid { quote, invoice: self.invoice(commitment), commitment, expiry: self.expiry }
            }
            Request::Issue { quote, claim } => {
                let order = self.order.as_ref().unwrap();
                assert!(*quote == order.quote() && order.is_claimed_by(claim));
                if !self.paid {
                    return Answer::Refused("not paid".into());
                }
                Answer::Issued {
                    quote: *quote,
                    signatures: order.outputs.iter().map(|b| self.secret.sign(b)).collect(),
                }
            }
        }
    }
}

fn open(dir: &Path, now: Unix) -> Purse {
    let store = Store::open(&dir.join("trades.sqlite"), &[1; 32]).unwrap();
    Purse::open(Arc::new(store), Zeroizing::new(MASTER), now).unwrap()
}

fn ordered(purse: &Purse, board_is: &Board) -> Batch {
    purse.order((URL, pubkey_of(&board())), board_is.keyset, 10, NOW).unwrap()
}

/// One step of a batch, as the shell would take it. Returns false when it is over.
fn step(purse: &Purse, batch: &Batch, board: &mut Board) -> bool {
    let state = match batch.next(&MASTER, NOW) {
        Next::Ask(request) => batch.hears(&MASTER, &board.answers(&request), NETWORK, NOW),
        Next::Begin => batch.begun(),
        Next::Pay { payment, .. } => {
            assert_eq!(payment, Board::payment());
            board.paid = true;
            batch.paid(&PaymentState::Succeeded { preimage: Board::preimage(), fee: Msat(1) })
        }
        Next::GiveUp(failure) => Some(batch.failed(&failure)),
        Next::Done => return false,
    };
    purse.moves(batch.name(), state.expect("it moves")).unwrap();
    true
}

fn bought(purse: &Purse, board: &mut Board) -> Batch {
    let mut batch = ordered(purse, board);
    while step(purse, &batch, board) {
        batch = purse.lock().batch(batch.name()).unwrap().clone();
    }
    batch
}

fn code(batch: &Batch) -> &str {
    match &batch.state {
        State::Failed { code, .. } => code,
        _ => "none",
    }
}

fn event(number: u8) -> MessageId {
    MessageId([number; 32])
}

#[test]
fn a_batch_that_is_broken_off_after_any_step_goes_on_and_comes_to_the_same() {
    let mut whole = Vec::new();
    for broken_off_after in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let mut board = Board::new();
        let mut purse = open(dir.path(), NOW);
        let first = ordered(&purse, &board);
        let (name, mut steps) = (first.name(), 0);
        loop {
            if steps == broken_off_after {
                drop(purse);
                purse = open(dir.path(), NOW);
            }
            let batch = purse.lock().batch(name).unwrap().clone();
            if !step(&purse, &batch, &mut board) {
                break;
            }
            steps += 1;
        }
        assert_eq!(steps, 5 - 1, "ordered, quoted, paying, paid, issued");
        let stamp = purse.lock().stamp((name.0, name.1 + 3), event(1)).unwrap();
        assert!(board.secret.redeems(&stamp, &event(1).0));
        whole.push(stamp.to_string());
    }
    assert!(whole.iter().all(|stamp| *stamp == whole[0]), "{whole:?}");
}

#[test]
fn what_is_not_the_invoice_for_this_batch_is_not_paid() {
    let refused = |change: &dyn Fn(&mut Board), price: u64| {
        let dir = tempfile::tempdir().unwrap();
        let purse = open(dir.path(), NOW);
        let mut board = Board::new();
        change(&mut board);
        board.keyset.price = Msat(price);
        let batch = bought(&purse, &mut board);
        assert!(!board.paid);
        code(&batch).to_owned()
    };
    assert_eq!(refused(&|board| board.amount = Msat(20_001), 2000), "invoice-amount");
    assert_eq!(refused(&|board| board.amount = Msat(0), 0), "invoice-amount");
    assert_eq!(refused(&|board| board.currency = Currency::Bitcoin, 2000), "invoice-network");
    assert_eq!(refused(&|board| board.final_cltv = 1000, 2000), "invoice-cltv");
    assert_eq!(refused(&|board| board.expiry = Unix(NOW.0), 2000), "invoice-expired");
    assert_eq!(refused(&|board| board.keyset.issue_until = NOW, 2000), "invoice-expired");
}

#[test]
fn an_invoice_that_commits_to_another_batch_is_not_paid_whatever_the_board_says() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    let mut board = Board::new();
    let batch = ordered(&purse, &board);
    let Next::Ask(request) = batch.next(&MASTER, NOW) else { panic!("nothing is asked") };
    let Answer::Unpaid { quote, expiry, .. } = board.answers(&request) else { panic!("no quote") };
    let other = [7; 32];
    for (quote, invoice, commitment, code) in [
        (quote, board.invoice(other), other, "invoice-commitment"),
        (quote, board.invoice(other), board.commitment(), "invoice-commitment"),
        (quote, board.invoice(board.commitment()), other, "invoice-commitment"),
        (other, board.invoice(board.commitment()), board.commitment(), "quote-mismatch"),
        (quote, "lnbcrt1".to_owned(), board.commitment(), "invoice-unreadable"),
    ] {
        let answer = Answer::Unpaid { quote, invoice, commitment, expiry };
        let state = batch.hears(&MASTER, &answer, NETWORK, NOW).unwrap();
        assert_eq!(super::tests::code(&Batch { state, ..batch.clone() }), code);
    }
}

#[test]
fn one_forged_signature_makes_the_whole_batch_worthless_and_the_payment_proves_it() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    let mut board = Board::new();
    let mut batch = ordered(&purse, &board);
    while !batch.is_paid() {
        assert!(step(&purse, &batch, &mut board));
        batch = purse.lock().batch(batch.name()).unwrap().clone();
    }
    let Next::Ask(request) = batch.next(&MASTER, NOW) else { panic!("nothing is asked") };
    let Answer::Issued { quote, signatures } = board.answers(&request) else { panic!("not issued") };
    let forger = KeysetSecret::derive(&[9; 32], NOW, NOW, NOW);
    let order = board.order.clone().unwrap();
    let mut one_wrong = signatures.clone();
    one_wrong[7] = forger.sign(&order.outputs[7]);
    let hears = |signatures, quote| batch.hears(&MASTER, &Answer::Issued { quote, signatures }, NETWORK, NOW);
    for wrong in [one_wrong, signatures[..9].to_vec(), [&signatures[..], &signatures[..1]].concat(), Vec::new()] {
        let state = hears(wrong, quote).unwrap();
        let State::Failed { code, paid: Some((_, preimage)), .. } = state else { panic!("taken") };
        assert_eq!((code.as_str(), PaymentId::from(preimage.hash())), ("forged", Board::payment()));
    }
    // Of another quote, or a refusal: nothing that is paid is given up for it.
    assert!(hears(signatures.clone(), [1; 32]).is_none());
    assert!(batch.hears(&MASTER, &Answer::Refused("no".into()), NETWORK, NOW).is_none());
    assert!(hears(signatures, quote).is_some_and(|state| matches!(state, State::Issued { .. })));
    let much_later = batch.keyset.redeem_until;
    assert_eq!(batch.next(&MASTER, much_later), Next::GiveUp(batch::Failure::NeverIssued));
}

#[test]
fn a_payment_that_failed_ends_the_batch_and_one_under_way_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    let mut board = Board::new();
    let mut batch = ordered(&purse, &board);
    while !matches!(batch.state, State::Paying { .. }) {
        step(&purse, &batch, &mut board);
        batch = purse.lock().batch(batch.name()).unwrap().clone();
    }
    assert!(batch.paid(&PaymentState::InFlight).is_none());
    let failed = batch.paid(&PaymentState::Failed { reason: "no route".into() }).unwrap();
    assert_eq!(code(&Batch { state: failed, ..batch.clone() }), "payment-failed");
    // An invoice that our node has never heard of is begun as long as it is good, and given up when nobody says that it was paid.
    assert!(batch.may_pay(NOW) && !batch.was_never_paid(NOW, true));
    let over = Unix(board.expiry.0 + 1);
    assert!(!batch.may_pay(over) && batch.was_never_paid(over, true) && !batch.was_never_paid(over, false));
    assert!(batch.was_never_paid(Unix(over.0 + 86_400), false));
}

#[test]
fn no_blank_is_ever_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new();
    let mut seen = BTreeSet::new();
    for round in 0..4 {
        let purse = open(dir.path(), NOW);
        for _ in 0..3 {
            let batch = ordered(&purse, &board);
            let outputs = batch.asks(&MASTER).outputs;
            assert!(outputs.into_iter().all(|output| seen.insert(output.serialize())), "round {round}");
        }
    }
    // A store that is older than the last batch, as after a restore.
    let other = tempfile::tempdir().unwrap();
    let batch = open(other.path(), NOW).order((URL, [0; 32]), board.keyset, 10, Unix(NOW.0 + 1)).unwrap();
    assert!(batch.asks(&MASTER).outputs.into_iter().all(|output| seen.insert(output.serialize())));
}

#[test]
fn a_credential_is_shown_for_one_event_and_the_same_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    assert_eq!(purse.stamp(URL, event(0), NOW).unwrap(), None);
    let mut board = Board::new();
    bought(&purse, &mut board);
    let stamp_of = |purse: &Purse, number: u8| purse.stamp(URL, event(number), NOW).unwrap();
    let stamps: Vec<Stamp> = (0..7).map(|number| stamp_of(&purse, number).unwrap()).collect();
    let secrets: BTreeSet<_> = stamps.iter().map(|stamp| stamp.secret).collect();
    assert_eq!(secrets.len(), 7);
    assert!(stamps.iter().zip(0..).all(|(stamp, number)| board.secret.redeems(stamp, &event(number).0)));
    drop(purse);
    let purse = open(dir.path(), NOW);
    assert!(stamps.iter().zip(0..).all(|(stamp, number)| stamp_of(&purse, number) == Some(*stamp)));
    let counts = purse.lock().counts();
    let count = counts[&(URL.to_owned(), board.keyset.id)];
    assert_eq!((count.free, count.used, count.lost), (3, 7, 0));
    assert_eq!(purse.stamp("ws://another", event(9), NOW).unwrap(), None);
    (7..10).for_each(|number| assert!(stamp_of(&purse, number).is_some()));
    assert_eq!(stamp_of(&purse, 10), None, "empty");
}

#[test]
fn the_order_of_spending_is_not_that_of_buying() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    let mut board = Board::new();
    let batch = bought(&purse, &mut board);
    let order: Vec<usize> = (0..10)
        .map(|number| {
            let shown = purse.stamp(URL, event(number), NOW).unwrap().unwrap();
            (0..10).find(|place| batch_secret(&purse, &batch, *place) == shown.secret).unwrap()
        })
        .collect();
    // One chance in 3,628,800.
    assert_ne!(order, (0..10).collect::<Vec<_>>());
}

fn batch_secret(purse: &Purse, batch: &Batch, place: usize) -> [u8; 32] {
    purse.lock().batch(batch.name()).unwrap().token(place).unwrap().secret
}

#[test]
fn what_is_about_to_be_over_is_shown_first_and_what_is_over_never() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    let mut long = Board::new();
    bought(&purse, &mut long);
    let mut short = Board::new();
    (short.secret, short.keyset) = keyset(2);
    bought(&purse, &mut short);
    let first = purse.stamp(URL, event(1), NOW).unwrap().unwrap();
    assert_eq!(first.keyset, short.keyset.id);
    let later = Unix(short.keyset.redeem_until.0 - 60);
    let next = purse.stamp(URL, event(2), later).unwrap().unwrap();
    assert_eq!(next.keyset, long.keyset.id);
    // Also for an event that one was shown for: it is refused now.
    assert_eq!(purse.stamp(URL, event(1), later).unwrap().unwrap().keyset, long.keyset.id);
    assert_eq!(purse.stamp(URL, event(3), long.keyset.redeem_until).unwrap(), None);
    assert_eq!(purse.lock().count_free(URL, NOW), 17);
    // Long after that nothing is left of it.
    drop(purse);
    let purse = open(dir.path(), Unix(short.keyset.redeem_until.0 + REMEMBERED_SECS + 1));
    assert_eq!(purse.lock().batches().count(), 1);
    assert_eq!(purse.store.list(SPEND).unwrap().len(), 2);
}

#[test]
fn a_credential_that_the_board_does_not_take_is_given_up_but_seldom() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    let mut board = Board::new();
    bought(&purse, &mut board);
    let first = purse.stamp(URL, event(1), NOW).unwrap().unwrap();
    let second = purse.stamp_again(URL, event(1), NOW).unwrap().unwrap();
    assert_ne!(first.secret, second.secret);
    assert_eq!(purse.stamp(URL, event(1), NOW).unwrap(), Some(second));
    // The board may have another reason: not again within the hour, not for ever, and not for another event.
    assert_eq!(purse.stamp_again(URL, event(1), Unix(NOW.0 + 3599)).unwrap(), None);
    assert_eq!(purse.stamp(URL, event(1), NOW).unwrap(), Some(second));
    assert!(purse.stamp_again(URL, event(1), Unix(NOW.0 + 3600)).unwrap().is_some());
    assert!(purse.stamp_again(URL, event(1), Unix(NOW.0 + 7200)).unwrap().is_some());
    assert_eq!(purse.stamp_again(URL, event(1), Unix(NOW.0 + 99_999)).unwrap(), None);
    assert_eq!(purse.stamp_again(URL, event(2), NOW).unwrap(), None, "nothing was shown for it");
    let count = purse.lock().counts()[&(URL.to_owned(), board.keyset.id)];
    assert_eq!((count.free, count.used, count.lost), (6, 1, 3));
}

#[test]
fn nothing_of_a_credential_is_in_the_file_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let purse = open(dir.path(), NOW);
    let batch = bought(&purse, &mut Board::new());
    let secrets: Vec<String> = (0..10).map(|place| units::hex32(&batch_secret(&purse, &batch, place))).collect();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let text = String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap()).into_owned();
        assert!(secrets.iter().all(|secret| !text.contains(secret)));
    }
}
