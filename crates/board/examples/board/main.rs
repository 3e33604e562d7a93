//! A board on its own: `board <data dir> <address:port>`. Prints where it listens, ends in order on SIGINT or SIGTERM. With 64 hex
//! digits more it asks for credentials of the keyset under them; with `--proxy ADDRESS` it believes that one whom it speaks for.

use std::io::Write as _;
use std::sync::Arc;

use board::{Board, BoardConfig, Proxies};
use tokio::signal::unix::{SignalKind, signal};

mod mint;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: board <data dir> <address:port> [secret in hex] [--proxy ADDRESS]")?;
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:0".into()).parse()?;
    let mut config = BoardConfig::new(dir, listen);
    while let Some(arg) = args.next() {
        if arg == "--proxy" {
            let proxies: Vec<String> = args.next().into_iter().collect();
            config.proxies = Proxies::parse(&proxies).map_err(|name| format!("{name} is no address"))?;
            continue;
        }
        let master = wire::parse_hex::<32>(&arg, "secret")?;
        config.ports.credentials = Some(Arc::new(mint::Mint::new(master, &[[0, u64::MAX, u64::MAX]])));
        config.policy.default.credential = true;
    }
    let board = Board::start(config).await?;
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
