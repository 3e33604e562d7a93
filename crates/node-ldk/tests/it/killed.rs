//! A real `kill -9`: the payee runs in a process of its own, which is this test binary run again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bitcoin::Network;
use node::{Node, PaymentState, PeerAddress};
use node_ldk::{ChainConfig, LdkConfig, LdkNode};
use units::{Msat, Preimage, Sat};

use crate::net::{Net, POLL, find, pay, payment_ends, secret, seed, until, usable};

const URL: &str = "SOUK_TEST_PAYEE_URL";
const FOLDER: &str = "SOUK_TEST_PAYEE_FOLDER";
const PORT: &str = "SOUK_TEST_PAYEE_PORT";
const AMOUNT: Msat = Msat(5_000_000);
const ROUNDS: u64 = 5;
const HOLDS: u64 = 12;

/// The payee in its own process: killed without a word when dropped.
struct Payee {
    process: Child,
    id: String,
    address: String,
}

impl Payee {
    fn start(net: &Net, port: u16) -> Payee {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["killed::payee_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(URL, net.dev.rpc_url())
            .env(FOLDER, net.folder("payee"))
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready =
            lines.map_while(Result::ok).find_map(|line| line.split_once("ready ").map(|(_, rest)| rest.to_owned()));
        let ready = ready.unwrap();
        let (id, address) = ready.split_once(' ').unwrap();
        Payee { id: id.into(), address: address.into(), process }
    }

    fn port(&self) -> u16 {
        self.address.rsplit(':').next().unwrap().parse().unwrap()
    }

    fn tell(&mut self, line: &str) {
        let stdin = self.process.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for Payee {
    fn drop(&mut self) {
        // SIGKILL on Unix.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn secrets(round: u64) -> Vec<Preimage> {
    (0..HOLDS).map(|number| secret(&format!("killed {round} {number}"))).collect()
}

/// Does nothing unless it was started by the test above: what [`Payee::start`] runs. Makes hold invoices into a file, and settles or cancels on command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payee_process() {
    let Ok(url) = std::env::var(URL) else { return };
    let folder: std::path::PathBuf = std::env::var(FOLDER).unwrap().into();
    let source = ChainConfig::Bitcoind { url, user: "devnet".into(), password: "devnet".into(), poll: POLL };
    let mut config = LdkConfig::new(folder.clone(), Network::Regtest, source);
    config.listen = vec![([127, 0, 0, 1], std::env::var(PORT).unwrap().parse().unwrap()).into()];
    config.funding_confirmations = 1;
    config.inbound.require_reserve = false;
    let node = LdkNode::start(config, &seed("payee")).await.unwrap();
    let info = node.info().await.unwrap();
    println!("ready {} {}", info.node_id, info.addresses[0]);
    let (lines, mut commands) = tokio::sync::mpsc::channel::<String>(100);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            lines.blocking_send(line).unwrap();
        }
        // The parent is gone.
        std::process::exit(1);
    });
    while let Some(line) = commands.recv().await {
        let (command, round) = line.split_once(' ').unwrap();
        let secrets = secrets(round.parse().unwrap());
        match command {
            "invoice" => {
                let mut invoices = String::new();
                for secret in &secrets {
                    let request = crate::net::hold_request(secret.hash(), AMOUNT, 144);
                    invoices += &node.create_hold_invoice(request).await.unwrap();
                    invoices.push('\n');
                }
                std::fs::write(folder.join("invoices.new"), invoices).unwrap();
                std::fs::rename(folder.join("invoices.new"), folder.join(format!("invoices.{round}"))).unwrap();
            }
            // Half are settled, half are canceled, as they come in.
            "finish" => {
                for (number, secret) in secrets.iter().enumerate() {
                    loop {
                        let done = match number % 2 {
                            0 => node.settle(secret.clone()).await,
                            _ => node.cancel(secret.hash()).await,
                        };
                        if done.is_ok() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            other => panic!("{other}?"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_with_held_payments_comes_back_whole() {
    let net = Net::start().await;
    let alice = net.node("alice").await;
    net.fund(&alice, Sat(20_000_000)).await;
    let mut payee = Payee::start(&net, 0);
    let port = payee.port();
    alice.connect_peer(PeerAddress { node_id: payee.id.clone(), address: payee.address.clone() }).await.unwrap();
    let request =
        node::OpenChannel { peer: payee.id.clone(), capacity: Sat(10_000_000), push: Msat::ZERO, announced: false };
    let channel = alice.open_channel(request).await.unwrap();
    let funding = find(&alice, &channel).await.unwrap().funding.unwrap();
    net.dev.wait_for_tx(funding.split(':').next().unwrap().parse().unwrap()).await.unwrap();
    net.mine(3, &[&alice]).await;
    usable(&alice, &channel).await;
    for round in 0..ROUNDS {
        payee.tell(&format!("invoice {round}"));
        let file = net.folder("payee").join(format!("invoices.{round}"));
        let invoices = until("invoices", || async { std::fs::read_to_string(&file).ok() }).await;
        for invoice in invoices.lines() {
            pay(&alice, invoice).await.unwrap();
        }
        payee.tell(&format!("finish {round}"));
        tokio::time::sleep(Duration::from_millis(17 * round)).await;
        drop(payee);
        payee = Payee::start(&net, port);
        payee.tell(&format!("finish {round}"));
        usable(&alice, &channel).await;
        for (number, secret) in secrets(round).iter().enumerate() {
            match payment_ends(&alice, secret.hash().into()).await.state {
                PaymentState::Succeeded { preimage, .. } => {
                    assert_eq!(number % 2, 0, "what was to be canceled was settled");
                    assert_eq!(preimage, *secret);
                }
                PaymentState::Failed { reason } => assert_eq!(number % 2, 1, "what was to be settled failed: {reason}"),
                PaymentState::InFlight => unreachable!("it ended"),
            }
        }
    }
    until("the last HTLC to go", || async { (find(&alice, &channel).await.unwrap().htlcs == 0).then_some(()) }).await;
    assert!(find(&alice, &channel).await.unwrap().usable, "the channel has lived through all of it");
}
