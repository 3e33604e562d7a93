//! A board with a doorkeeper in front of it, who does to frames what he is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use board::{Board, BoardConfig};
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the doorkeeper does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mischief {
    /// Nothing.
    None,
    /// Events that the board has never reach anybody, though it said OK.
    Withholds,
    /// Every event comes three times.
    Repeats,
    /// Events come in the reverse order, as many as come within a moment.
    Reorders,
    /// Nobody hears an OK.
    SwallowsOk,
    /// A copy with a broken signature comes before each event.
    Forges,
    /// Of the gift wraps for a key (hex) the first passes and the second is lost; then all is well.
    LosesSecond(String),
    /// The next gift wrap for a key (hex) is lost; then all is well.
    LosesNext(String),
    /// It does not know NIP-77.
    NeverHeardOfReconciling,
}

/// A board behind a doorkeeper.
pub(super) struct Guarded {
    pub(super) url: String,
    mischief: Arc<Mutex<Mischief>>,
    open: watch::Sender<bool>,
    _board: Board,
    stop: CancellationToken,
}

impl Guarded {
    pub(super) async fn start(dir: &Path) -> Guarded {
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("ws://{}", door.local_addr().unwrap());
        let config = BoardConfig {
            urls: vec![url.clone()],
            network: bitcoin::Network::Regtest,
            ..BoardConfig::new(dir, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let board = Board::start(config).await.unwrap();
        let behind = format!("ws://{}", board.local_addr());
        let mischief = Arc::new(Mutex::new(Mischief::None));
        let (open, opened) = watch::channel(true);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(keep_door(door, behind, mischief.clone(), opened, stop.clone(), tasks.clone()));
        Guarded { url, mischief, open, _board: board, stop }
    }

    pub(super) fn does(&self, mischief: Mischief) {
        *self.mischief.lock().unwrap_or_else(PoisonError::into_inner) = mischief;
    }

    pub(super) fn is_honest(&self) -> bool {
        is(&self.mischief, &Mischief::None)
    }

    /// Nobody gets in, and who is in is thrown out.
    pub(super) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(super) fn reopen(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn keep_door(
    door: TcpListener,
    behind: String,
    mischief: Arc<Mutex<Mischief>>,
    open: watch::Receiver<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    while let Some(Ok((guest, _))) = stop.run_until_cancelled(door.accept()).await {
        if !*open.borrow() {
            continue;
        }
        let (behind, mischief, mut open, stop) = (behind.clone(), mischief.clone(), open.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = open.wait_for(|open| !open) => {}
                () = lead(guest, &behind, &mischief) => {}
            }
        });
    }
}

/// Carries frames between a guest and the board until either hangs up.
async fn lead(guest: TcpStream, behind: &str, mischief: &Mutex<Mischief>) {
    let (Ok(mut guest), Ok((mut board, _))) = (accept_async(guest).await, connect_async(behind).await) else { return };
    let mut held: Vec<Message> = Vec::new();
    loop {
        let rest = tokio::time::sleep(Duration::from_millis(100));
        let outcome = tokio::select! {
            said = guest.next() => match said {
                Some(Ok(Message::Text(text))) if text.starts_with("[\"NEG-") && is(mischief, &Mischief::NeverHeardOfReconciling) => {
                    guest.send(Message::Text(r#"["NOTICE","unknown verb"]"#.into())).await
                }
                Some(Ok(frame)) => board.send(frame).await,
                Some(Err(_)) | None => return,
            },
            said = board.next() => match said {
                Some(Ok(frame)) => {
                    let mut outcome = Ok(());
                    for frame in judge(frame, mischief, &mut held) {
                        outcome = guest.send(frame).await;
                    }
                    outcome
                }
                Some(Err(_)) | None => return,
            },
            () = rest, if !held.is_empty() => {
                let mut outcome = Ok(());
                while let Some(frame) = held.pop() {
                    outcome = guest.send(frame).await;
                }
                outcome
            }
        };
        if outcome.is_err() {
            return;
        }
    }
}

fn is(mischief: &Mutex<Mischief>, what: &Mischief) -> bool {
    *mischief.lock().unwrap_or_else(PoisonError::into_inner) == *what
}

/// What a guest gets instead of a frame.
fn judge(frame: Message, mischief: &Mutex<Mischief>, held: &mut Vec<Message>) -> Vec<Message> {
    let Message::Text(text) = &frame else { return vec![frame] };
    let (event, ok) = (text.starts_with("[\"EVENT\""), text.starts_with("[\"OK\""));
    let wrap = event && text.contains("\"kind\":1059");
    let mut mischief = mischief.lock().unwrap_or_else(PoisonError::into_inner);
    match mischief.clone() {
        Mischief::Withholds if event => Vec::new(),
        Mischief::SwallowsOk if ok => Vec::new(),
        Mischief::Repeats if event => vec![frame; 3],
        Mischief::LosesSecond(to) if wrap && text.contains(&to) => {
            *mischief = Mischief::LosesNext(to);
            vec![frame]
        }
        Mischief::LosesNext(to) if wrap && text.contains(&to) => {
            *mischief = Mischief::None;
            Vec::new()
        }
        Mischief::Reorders if event => {
            held.push(frame);
            Vec::new()
        }
        Mischief::Forges if event => {
            let at = text.find("\"sig\":\"").unwrap() + "\"sig\":\"".len();
            let flipped = if text[at..].starts_with('0') { "1" } else { "0" };
            let forged = format!("{}{flipped}{}", &text[..at], &text[at + 1..]);
            vec![Message::Text(forged.into()), frame]
        }
        _ => vec![frame],
    }
}
