//! A board on its own: `board <data dir> <address:port>`. Prints where it listens, ends in order on SIGINT or SIGTERM.

use std::io::Write as _;

use board::{Board, BoardConfig};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: board <data dir> <address:port>")?;
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:0".into()).parse()?;
    let board = Board::start(BoardConfig::new(dir, listen)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", board.local_addr())?;
    out.flush()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    writeln!(out, "{:?}", board.stats())?;
    board.shutdown().await;
    Ok(())
}
