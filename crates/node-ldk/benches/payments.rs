//! How many payments a second two embedded nodes pass over one channel, one after the other and many at a time.
//! `cargo bench -p node-ldk`; the nodes' files are in `$TMPDIR`, and without it
//! in memory: name a folder on a disk to measure the disk too.

#![allow(clippy::print_stdout, reason = "a driver prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![allow(dead_code, reason = "the tests use more of the network than this")]

#[path = "../tests/it/net.rs"]
mod net;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use node::{InvoiceRequest, Node};
use node_ldk::LdkNode;
use units::{Msat, Sat};

use net::{Net, hold, pay, secret, succeeds};

const AMOUNT: Msat = Msat(10_000_000);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let net = Net::start().await;
    let (alice, bob) = (net.node("alice").await, net.node("bob").await);
    net.fund(&alice, Sat(100_000_000)).await;
    net.channel(&alice, &bob, Sat(80_000_000), Sat(0)).await;
    payments(&alice, &bob, 20, 1).await;
    for (count, at_a_time) in [(50, 1), (200, 10), (600, 40), (1_200, 200)] {
        payments(&alice, &bob, count, at_a_time).await;
    }
    holds(&alice, &bob).await;
    idle().await;
}

async fn payments(alice: &Arc<LdkNode>, bob: &Arc<LdkNode>, count: usize, at_a_time: usize) {
    let mut invoices = Vec::new();
    for _ in 0..count {
        let request = InvoiceRequest { amount: Some(AMOUNT), description: "".into(), expiry_secs: 3600 };
        invoices.push(bob.create_invoice(request).await.unwrap());
    }
    let start = Instant::now();
    stream::iter(invoices)
        .for_each_concurrent(at_a_time, |invoice| async move {
            let id = pay(alice, &invoice).await.unwrap();
            succeeds(alice, id).await;
        })
        .await;
    let spent = start.elapsed().as_secs_f64();
    println!("{count:5} payments, {at_a_time:3} at a time: {:7.1} / s", count as f64 / spent);
}

async fn holds(alice: &Arc<LdkNode>, bob: &Arc<LdkNode>) {
    let (mut held, mut settled) = (Duration::ZERO, Duration::ZERO);
    const ROUNDS: u32 = 30;
    for round in 0..ROUNDS {
        let secret = secret(&format!("bench {round}"));
        let start = Instant::now();
        hold(alice, bob, &secret, AMOUNT, 144).await;
        held += start.elapsed();
        let start = Instant::now();
        bob.settle(secret.clone()).await.unwrap();
        succeeds(alice, secret.hash().into()).await;
        settled += start.elapsed();
    }
    println!("a hold: invoice to accepted {:?}, settle to paid {:?}", held / ROUNDS, settled / ROUNDS);
}

/// CPU time of the whole process, devnet included, while nothing happens.
async fn idle() {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cpu_ticks();
    tokio::time::sleep(Duration::from_secs(10)).await;
    if let (Some(before), Some(after)) = (before, cpu_ticks()) {
        println!(
            "idle: {:.2} % of one core (two nodes that poll every 50 ms, and the chain)",
            (after - before) as f64 / 10.0
        );
    }
}

/// User and system time in hundredths of a second.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
