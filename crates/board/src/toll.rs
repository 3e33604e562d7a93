//! What questions cost who asks them: the time that the board works for them, counted by address.
//!
//! What a question may make the board do says little: a filter of one word can go through everything, one of hundreds of authors
//! find all at once. So it is the work itself that counts. Who has had little of it is answered at once; who has had more stands
//! in a line with all others who have, so that a part of the board is left for those who ask little; and who has had all that the
//! policy grants one address waits, and is not read from meanwhile. Nothing is refused: a page that comes late is better than none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::origin::counted;
use crate::rates::Asker;
use crate::server::Shared;

/// What a question costs besides the work on it: to hear it and to send the answer.
const PER_QUESTION: Duration = Duration::from_micros(10);

/// Whose questions they are, and how much was done for them.
#[derive(Clone)]
pub(crate) struct Toll {
    shared: Arc<Shared>,
    /// `None` if it does not count.
    address: Option<IpAddr>,
    /// One of its connections stands in line, the others wait for that: else the line would be of who has most of them.
    first: Option<Arc<Semaphore>>,
}

type Place = OwnedSemaphorePermit;

/// The right to work on a question. Others wait until it is dropped, or given to [`Toll::done`].
pub(crate) struct Leave {
    _turn: Place,
    /// The place in line of who has asked much.
    line: Option<Place>,
    /// The places of what is done by one at a time, and of who stands in line for the others.
    _one: [Option<Place>; 2],
}

impl Leave {
    /// It is of who has asked much, and is to be short.
    pub(crate) fn is_in_line(&self) -> bool {
        self.line.is_some()
    }
}

impl Toll {
    pub(crate) fn new(shared: Arc<Shared>, address: IpAddr) -> Toll {
        let address = counted(address);
        let first = address.and_then(|address| shared.addresses.line(address));
        Toll { shared, address, first }
    }

    /// Work begins for the address. `None` if it does not count.
    pub(crate) fn begin(&self) -> Option<Instant> {
        self.address.map(|_| Instant::now())
    }

    /// The work that began then is done.
    pub(crate) fn pay(&self, began: Option<Instant>) {
        if let Some(began) = began {
            self.charge(began.elapsed());
        }
    }

    /// The work that began then is done, and with it the turn.
    pub(crate) fn done(&self, turn: Leave, began: Option<Instant>) {
        self.pay(began);
        // Not before: whoever is next is to know.
        drop(turn);
    }

    /// What was heard then, a question or anything else but an event, is dealt with. Tells how long nothing more is to be read from
    /// who said it.
    pub(crate) fn heard(&self, began: Option<Instant>, asks: bool) -> Option<Duration> {
        let work = began?.elapsed() + if asks { PER_QUESTION } else { Duration::ZERO };
        match self.charge(work) {
            Asker::Spent(wait) => Some(wait),
            Asker::Easy | Asker::Busy => None,
        }
    }

    /// The address has asked so little that its questions may be answered at once.
    pub(crate) fn is_easy(&self) -> bool {
        self.stands() == Asker::Easy
    }

    fn stands(&self) -> Asker {
        self.charge(Duration::ZERO)
    }

    /// How the address stands after so much more work for it.
    fn charge(&self, work: Duration) -> Asker {
        let Some(address) = self.address else { return Asker::Easy };
        let Some(share) = self.shared.policy.get().per_address_queries else { return Asker::Easy };
        self.shared.rates.asker(address, share, work, self.shared.since.elapsed())
    }

    /// Waits until a question of the address may be worked on. What takes long is done by one at a time of those who wait for `one`,
    /// and stands in line however little was asked before. `None` when the board is closing.
    pub(crate) async fn turn(&self, one: Option<&Arc<Semaphore>>) -> Option<Leave> {
        let mut waited = false;
        loop {
            let stands = self.stands();
            if let Asker::Spent(wait) = stands {
                if !std::mem::replace(&mut waited, true) {
                    self.shared.counters.waited();
                }
                tokio::time::sleep(wait).await;
                continue;
            }
            let much = one.is_some() || stands == Asker::Busy;
            let first = place(self.first.as_ref().filter(|_| much)).await?;
            let alone = place(one).await?;
            if self.is_spent() {
                continue;
            }
            let line = place(Some(&self.shared.line).filter(|_| much)).await?;
            let turn = permit(&self.shared.turns).await?;
            // Meanwhile others of its address had their turns.
            match self.stands() {
                Asker::Spent(_) => {}
                Asker::Busy if line.is_none() => {}
                Asker::Easy | Asker::Busy => return Some(Leave { _turn: turn, line, _one: [first, alone] }),
            }
        }
    }

    fn is_spent(&self) -> bool {
        matches!(self.stands(), Asker::Spent(_))
    }
}

async fn permit(of: &Arc<Semaphore>) -> Option<Place> {
    of.clone().acquire_owned().await.ok()
}

/// A place where one is wanted. `None` when the board is closing.
async fn place(of: Option<&Arc<Semaphore>>) -> Option<Option<Place>> {
    match of {
        Some(of) => permit(of).await.map(Some),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Share;
    use crate::{Board, BoardConfig};

    const SOON: Duration = Duration::from_millis(50);

    async fn board() -> (Board, tempfile::TempDir) {
        board_of(2).await
    }

    async fn board_of(threads: usize) -> (Board, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BoardConfig::new(dir.path(), "127.0.0.1:0".parse().unwrap());
        config.limits.query_threads = threads;
        config.policy.per_address_queries = Some(Share { burst_ms: 60, per_minute_ms: 0 });
        (Board::start(config).await.unwrap(), dir)
    }

    async fn soon(toll: &Toll) -> Option<Leave> {
        tokio::time::timeout(SOON, toll.turn(None)).await.ok().flatten()
    }

    #[tokio::test]
    async fn those_who_ask_much_have_one_turn_between_them() {
        let (board, _dir) = board().await;
        let [much, more, little] = [1, 2, 3].map(|n| Toll::new(board.shared.clone(), [192, 0, 2, n].into()));
        assert_eq!([&much, &more].map(|toll| toll.charge(Duration::from_millis(20))), [Asker::Busy; 2]);
        let turn = soon(&much).await.unwrap();
        assert!(turn.is_in_line() && soon(&more).await.is_none());
        let quick = soon(&little).await.expect("the other one is left for those who ask little");
        assert!(!quick.is_in_line() && little.is_easy() && !more.is_easy());
        much.done(turn, Instant::now().checked_sub(SOON));
        assert!(matches!(much.stands(), Asker::Spent(_)), "20 ms and 50 are more than 60");
        assert!(soon(&more).await.is_some_and(|turn| turn.is_in_line()));
        board.shutdown().await;
    }

    #[tokio::test]
    async fn of_many_connections_of_an_address_one_stands_in_line() {
        let (board, _dir) = board_of(4).await;
        let [much, more] = [1, 2].map(|n| {
            let first = Some(Arc::new(Semaphore::new(1)));
            Toll { first, ..Toll::new(board.shared.clone(), [192, 0, 2, n].into()) }
        });
        assert_eq!([&much, &more].map(|toll| toll.charge(Duration::from_millis(20))), [Asker::Busy; 2]);
        let turn = soon(&much).await.unwrap();
        assert!(soon(&much.clone()).await.is_none(), "though there is another place in line");
        assert!(soon(&more).await.is_some_and(|turn| turn.is_in_line()));
        drop(turn);
        assert!(soon(&much.clone()).await.is_some());
        board.shutdown().await;
    }

    #[tokio::test]
    async fn what_others_of_an_address_took_meanwhile_is_taken_from_who_stands_in_line() {
        let (board, _dir) = board().await;
        let toll = Toll::new(board.shared.clone(), [192, 0, 2, 1].into());
        assert_eq!(toll.charge(Duration::from_millis(20)), Asker::Busy);
        let turn = soon(&toll).await.unwrap();
        let (second, others) = (toll.clone(), toll.clone());
        let waiting = async move { tokio::time::timeout(SOON * 4, second.turn(None)).await.is_err() };
        let taking = async move {
            tokio::time::sleep(SOON).await;
            assert!(matches!(others.charge(Duration::from_secs(3)), Asker::Spent(_)));
            drop(turn);
        };
        assert!(tokio::join!(waiting, taking).0);
        assert_eq!(board.shared.counters.waits(), 1);
        let home = Toll::new(board.shared.clone(), [127, 0, 0, 1].into());
        assert_eq!((home.begin(), home.charge(Duration::MAX)), (None, Asker::Easy));
        board.shutdown().await;
    }
}
