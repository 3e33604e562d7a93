//! The work itself: two nodes, one channel, holds, payments, restarts.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::chain::ChainClient;
use crate::figures::{Figure, Figures, Report};
use crate::subject::{Hash, PeerAt, Place, Subject, Told};
use crate::{Amount, Task};

const CAPACITY_SAT: u64 = 10_000_000;
const HOLD_MSAT: u64 = 50_000_000;
/// Above the dust limit: every payment is an output of the commitment, with a signature of its own.
const PAYMENT_MSAT: u64 = 1_000_000;
const POLL: Duration = Duration::from_secs(2);
/// Payments and holds before anything is measured.
const WARM_UP: usize = 5;
/// Longest wait for one thing.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that is polled.
const LOOK: Duration = Duration::from_millis(2);
/// Before a payment for which the channel had no slot is tried again: a refusal costs ldk-node a write to the disk, and
/// asking more often makes it slower.
const SLOT_PAUSE: Duration = Duration::from_millis(50);
/// How long a node is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(5);
/// Blocks that a node finds on its restart.
const MISSED_BLOCKS: u32 = 3;

struct Node<S: Subject> {
    subject: Arc<S>,
    seed: Arc<S::Seed>,
    told: mpsc::Receiver<Told>,
    place: Place,
}

impl<S: Subject> Node<S> {
    async fn start(place: Place) -> Result<Node<S>> {
        let seed = Arc::new(S::seed(place.entropy));
        Node::again(place, seed).await
    }

    async fn again(place: Place, seed: Arc<S::Seed>) -> Result<Node<S>> {
        let (subject, told) = S::start(&place, &seed).await?;
        Ok(Node { subject, seed, told, place })
    }

    /// Waits until the node tells what is wanted; what else it tells is dropped.
    async fn hears(&mut self, wanted: &Told) -> Result<()> {
        let heard = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.told.recv().await {
                    None => bail!("the node stopped telling"),
                    Some(Told::Failed(_, why)) => bail!("a payment failed: {why}"),
                    Some(told) if told == *wanted => return Ok(()),
                    Some(_) => {}
                }
            }
        });
        heard.await.with_context(|| format!("waited for {wanted:?}"))?
    }

    fn at(&self) -> PeerAt {
        PeerAt { node_id: self.subject.node_id(), address: self.place.listen }
    }
}

async fn until<F: Future<Output = Result<bool>>>(what: &str, mut look: impl FnMut() -> F) -> Result<()> {
    let seen = tokio::time::timeout(PATIENCE, async {
        while !look().await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    });
    seen.await.with_context(|| format!("waited for {what}"))?
}

async fn caught_up<S: Subject>(node: &S, height: u32) -> Result<()> {
    until("the tip", || async { Ok(node.height().await?.is_some_and(|at| at >= height)) }).await
}

fn place(task: &Task, name: &str) -> Result<Place> {
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let entropy = Sha256::digest(name.as_bytes()).into();
    Ok(Place { dir: task.dir.join(name), entropy, listen, chain: task.chain.clone(), poll: POLL })
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Two nodes and everything that they do together.
pub(crate) async fn pair<S: Subject>(task: &Task) -> Result<Report> {
    let chain = ChainClient::new(&task.chain);
    let mut a = Node::<S>::start(place(task, "a")?).await?;
    let mut b = Node::<S>::start(place(task, "b")?).await?;
    connect(&chain, &a, &b).await.context("opening the channel")?;
    let mut figures = Figures::new();
    let amount = &task.amount;
    for number in 0..WARM_UP {
        hold(&mut a, &mut b, "warm up", number).await?;
        one_payment(&mut a, &b).await?;
        b.hears(&Told::Received).await?;
    }
    holds(&mut a, &mut b, amount, &mut figures).await.context("holds")?;
    sequential(&mut a, &b, amount, &mut figures).await.context("sequential payments")?;
    let again = in_flight(&mut a, &b, amount, &mut figures).await.context("payments in flight")?;
    let received = amount.sequential + amount.parallel;
    for number in 0..received {
        b.hears(&Told::Received).await.with_context(|| format!("receipt {number} of {received}"))?;
    }
    restarts(&chain, a, &b, amount, &mut figures).await.context("restarts")?;
    b.subject.stop().await?;
    Ok(Report { figures, again })
}

async fn connect<S: Subject>(chain: &ChainClient, a: &Node<S>, b: &Node<S>) -> Result<()> {
    chain.send(&a.subject.address().await?, 5 * CAPACITY_SAT).await?;
    chain.send(&b.subject.address().await?, CAPACITY_SAT).await?;
    chain.mine(6).await?;
    for node in [a, b] {
        until("coins", || async { Ok(node.subject.spendable().await? > 0) }).await?;
    }
    a.subject.open(&b.at(), CAPACITY_SAT).await?;
    until("the funding transaction", || async { Ok(chain.waiting().await? > 0) }).await?;
    chain.mine(6).await?;
    for node in [a, b] {
        until("a usable channel", || node.subject.usable()).await?;
    }
    Ok(())
}

/// One hold; returns the time of the whole and of its settlement, in milliseconds.
async fn hold<S: Subject>(a: &mut Node<S>, b: &mut Node<S>, what: &str, number: usize) -> Result<(f64, f64)> {
    let secret: [u8; 32] = Sha256::digest(format!("{what} {number} {}", a.place.listen)).into();
    let hash: Hash = Sha256::digest(secret).into();
    let invoice = b.subject.hold_invoice(hash, HOLD_MSAT).await?;
    let start = Instant::now();
    let payer = Arc::clone(&a.subject);
    // The payee does not wait for the payer's call to return.
    let paying = tokio::spawn(async move { payer.pay(&invoice).await });
    let held = Told::Held(hash);
    while b.told.recv().await.context("the payee stopped telling")? != held {}
    let settled = Instant::now();
    let (settling, paid) = (b.subject.settle(hash, secret, HOLD_MSAT), Told::Paid(hash));
    let (settle, known) = tokio::join!(settling, async {
        a.hears(&paid).await?;
        anyhow::Ok((ms(start), ms(settled)))
    });
    settle?;
    let _hash = paying.await??;
    b.hears(&Told::Received).await?;
    known
}

async fn holds<S: Subject>(a: &mut Node<S>, b: &mut Node<S>, amount: &Amount, figures: &mut Figures) -> Result<()> {
    let (mut whole, mut settling) = (Vec::new(), Vec::new());
    for number in 0..amount.holds {
        let (all, settle) = hold(a, b, "hold", number).await?;
        whole.push(all);
        settling.push(settle);
    }
    figures.insert(Figure::HoldMedianMs, median(&whole));
    figures.insert(Figure::HoldP99Ms, percentile(&whole, 0.99));
    figures.insert(Figure::SettleMedianMs, median(&settling));
    figures.insert(Figure::SettleP99Ms, percentile(&settling, 0.99));
    Ok(())
}

async fn one_payment<S: Subject>(a: &mut Node<S>, b: &Node<S>) -> Result<()> {
    let invoice = b.subject.invoice(PAYMENT_MSAT).await?;
    pay_and_wait(a, &invoice).await
}

/// With one payment under way, whatever is paid is that one.
async fn pay_and_wait<S: Subject>(a: &mut Node<S>, invoice: &str) -> Result<()> {
    a.subject.pay(invoice).await?;
    loop {
        match tokio::time::timeout(PATIENCE, a.told.recv()).await.context("waited for a payment")? {
            None => bail!("the node stopped telling"),
            Some(Told::Paid(_)) => return Ok(()),
            Some(Told::Failed(_, why)) => bail!("a payment failed: {why}"),
            Some(_) => {}
        }
    }
}

async fn invoices<S: Subject>(node: &S, count: usize) -> Result<Vec<String>> {
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        made.push(node.invoice(PAYMENT_MSAT).await?);
    }
    Ok(made)
}

async fn sequential<S: Subject>(a: &mut Node<S>, b: &Node<S>, amount: &Amount, figures: &mut Figures) -> Result<()> {
    let invoices = invoices(&*b.subject, amount.sequential).await?;
    let start = Instant::now();
    for invoice in &invoices {
        pay_and_wait(a, invoice).await?;
    }
    figures.insert(Figure::SequentialPerSecond, amount.sequential as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Always the same number of payments under way, until none is left to start. Returns how often one was tried again.
async fn in_flight<S: Subject>(a: &mut Node<S>, b: &Node<S>, amount: &Amount, figures: &mut Figures) -> Result<usize> {
    let mut left = invoices(&*b.subject, amount.parallel).await?;
    let mut calls: JoinSet<(String, Result<Hash>)> = JoinSet::new();
    let payer = Arc::clone(&a.subject);
    let begin = |calls: &mut JoinSet<_>, invoice: Option<String>, pause: Duration| {
        let (Some(invoice), payer) = (invoice, Arc::clone(&payer)) else { return };
        calls.spawn(async move {
            tokio::time::sleep(pause).await;
            let outcome = payer.pay(&invoice).await;
            (invoice, outcome)
        });
    };
    let (mut again, mut last_failure) = (0, String::from("nothing"));
    // A call may return before or after the end of its payment is told.
    let (mut started, mut paid, mut failed) = (HashMap::new(), HashSet::new(), HashSet::new());
    let start = Instant::now();
    for _ in 0..amount.in_flight {
        begin(&mut calls, left.pop(), Duration::ZERO);
    }
    while paid.len() < amount.parallel {
        let retry = tokio::select! {
            told = a.told.recv() => match told {
                None => bail!("the node stopped telling"),
                Some(Told::Paid(hash)) => {
                    started.remove(&hash);
                    if paid.insert(hash) {
                        begin(&mut calls, left.pop(), Duration::ZERO);
                    }
                    None
                }
                Some(Told::Failed(hash, why)) => {
                    last_failure = why;
                    let invoice = started.remove(&hash);
                    if invoice.is_none() {
                        failed.insert(hash);
                    }
                    invoice
                }
                Some(_) => None,
            },
            Some(called) = calls.join_next() => match called? {
                (invoice, Ok(hash)) if failed.remove(&hash) => Some(invoice),
                (_, Ok(hash)) if paid.contains(&hash) => None,
                (invoice, Ok(hash)) => {
                    started.insert(hash, invoice);
                    None
                }
                (invoice, Err(error)) => {
                    last_failure = error.to_string();
                    Some(invoice)
                }
            },
            () = tokio::time::sleep(PATIENCE) => {
                bail!("stuck after {} payments; last failure: {last_failure}", paid.len())
            }
        };
        if retry.is_some() {
            again += 1;
            begin(&mut calls, retry, SLOT_PAUSE);
        }
    }
    figures.insert(Figure::InFlightPerSecond, amount.parallel as f64 / start.elapsed().as_secs_f64());
    Ok(again)
}

async fn restarts<S: Subject>(
    chain: &ChainClient,
    mut a: Node<S>,
    b: &Node<S>,
    amount: &Amount,
    figures: &mut Figures,
) -> Result<()> {
    let (mut ready, mut usable) = (Vec::new(), Vec::new());
    for _ in 0..amount.restarts {
        a.subject.stop().await?;
        let (place, seed) = (a.place.clone(), Arc::clone(&a.seed));
        drop(a);
        chain.mine(MISSED_BLOCKS).await?;
        let height = chain.height().await?;
        caught_up(&*b.subject, height).await?;
        let start = Instant::now();
        a = Node::again(place, seed).await?;
        let (caught_up, channel) = tokio::join!(
            async {
                caught_up(&*a.subject, height).await?;
                anyhow::Ok(ms(start))
            },
            async {
                until("the channel", || a.subject.usable()).await?;
                anyhow::Ok(ms(start))
            }
        );
        ready.push(caught_up?);
        usable.push(channel?);
        // Able to pay is more than a flag.
        one_payment(&mut a, b).await?;
    }
    figures.insert(Figure::ReadyMs, median(&ready));
    figures.insert(Figure::UsableMs, median(&usable));
    a.subject.stop().await
}

/// One node, left alone.
pub(crate) async fn alone<S: Subject>(task: &Task) -> Result<Report> {
    let chain = ChainClient::new(&task.chain);
    let node = Node::<S>::start(place(task, "a")?).await?;
    caught_up(&*node.subject, chain.height().await?).await?;
    // Not the work's own connections.
    drop(chain);
    tokio::time::sleep(IDLE).await;
    let status = std::fs::read_to_string("/proc/self/status").context("this measures on Linux alone")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
    let kib: f64 = kib.context("VmRSS")?.trim().parse()?;
    node.subject.stop().await?;
    Ok(Report { figures: Figures::from([(Figure::MemoryMib, kib / 1024.0)]), again: 0 })
}
