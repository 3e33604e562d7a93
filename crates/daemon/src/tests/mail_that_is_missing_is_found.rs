//! Scenario 21: stored mail is asked for again. A board that reconciles (NIP-77) brings what is missing and no more; one that does not
//! brings all of it once more.

use std::collections::BTreeSet;

use secp256k1::{Keypair, SECP256K1};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::hex32;
use wire::event::{Event, Unsigned, pubkey_of};

use super::boards::{Guarded, Mischief};
use super::people::until;
use crate::board_link::{BoardLink, Letterbox};
use crate::clock;

const LETTERS: u8 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_is_missing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let board = Guarded::start(dir.path()).await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let [me, friend] = [8, 9].map(|byte| Keypair::from_seckey_slice(SECP256K1, &[byte; 32]).unwrap());
    let (mail, mut mailed) = mpsc::channel(2 * usize::from(LETTERS));
    let letterbox = Letterbox::new(mail);
    let link = BoardLink::start(board.url.clone(), false, letterbox.clone(), &tasks, stop.clone());
    link.listen(me);
    link.caught_up().await;
    let mut written = BTreeSet::new();
    for n in 0..LETTERS {
        let letter = letter(n, &friend, &me);
        written.insert(letter.id);
        link.publish(letter).await.unwrap();
        letterbox.seen.insert(&mailed.recv().await.unwrap().event);
    }

    let lost = lose(&board, &link, letter(LETTERS, &friend, &me), &me).await;
    link.fetch_again();
    let found = mailed.recv().await.unwrap().event;
    assert_eq!(hex32(&found.id), hex32(&lost));
    letterbox.seen.insert(&found);
    // The next to come is the next to be written.
    let next = letter(LETTERS + 1, &friend, &me);
    link.publish(next.clone()).await.unwrap();
    assert_eq!(hex32(&mailed.recv().await.unwrap().event.id), hex32(&next.id));
    letterbox.seen.insert(&next);

    let again = lose(&board, &link, letter(LETTERS + 2, &friend, &me), &me).await;
    board.does(Mischief::NeverHeardOfReconciling);
    link.fetch_again();
    let mut missing: BTreeSet<_> = written.into_iter().chain([lost, next.id, again]).collect();
    while !missing.is_empty() {
        let id = mailed.recv().await.unwrap().event.id;
        assert!(missing.remove(&id), "{} came twice", hex32(&id));
    }
    stop.cancel();
}

/// Publishes something that the board takes, and of which nobody is told.
async fn lose(board: &Guarded, link: &BoardLink, letter: Event, to: &Keypair) -> [u8; 32] {
    board.does(Mischief::LosesNext(hex32(&pubkey_of(to))));
    let id = letter.id;
    link.publish(letter).await.expect("a board that takes it");
    until("it is lost", async || board.is_honest()).await;
    id
}

fn letter(n: u8, from: &Keypair, to: &Keypair) -> Event {
    let now = clock::unix();
    let content = format!("letter {n}");
    let rumor = Unsigned { pubkey: pubkey_of(from), created_at: now, kind: 14, tags: Vec::new(), content };
    wire::seal::wrap(&rumor, from, &pubkey_of(to), now, None, &[n; 32]).expect("a key of ours")
}
