//! LND and our node on one devnet: coins, channels from either side, payments and holds in both directions, and both ways to
//! close a channel, with every transaction of LND's taken by the devnet's mempool and mined.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Address, Network};
use node::{ChannelId, ChannelState, HoldState, InvoiceRequest, Node, PaymentState};
use node_ldk::LdkNode;
use tokio::task::JoinHandle;
use units::{Msat, Preimage, Sat};

use crate::lnd::{Lnd, text};
use crate::net::{Net, hold_becomes, hold_request, pay, secret, succeeds, until, usable};

const COINS: u64 = 50_000_000;
const CAPACITY: u64 = 8_000_000;
const PUSHED: u64 = 3_000_000;
const AMOUNT_SAT: u64 = 120_000;
const AMOUNT: Msat = Msat(AMOUNT_SAT * 1000);
/// Blocks after its own commitment for which a node has to wait for its coins: what LDK asks of a peer, and LND is told to.
pub(crate) const DELAY: u16 = 144;
/// Blocks in which something that is due has to happen.
const DUE_BLOCKS: u32 = 40;

struct Stage {
    net: Net,
    lnd: Lnd,
    ours: Arc<LdkNode>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lnd_trades_with_us() {
    let net = Net::start().await;
    let (ours, lnd) = (net.node("ours").await, Lnd::start(&net).await);
    let stage = Stage { net, lnd, ours };
    stage.coins().await;
    stage.ours.connect_peer(stage.lnd.address().await).await.unwrap();
    let from_lnd = stage.lnd_opens().await;
    stage.payments().await;
    stage.our_payment_is_held_and_settled().await;
    stage.their_payment_is_held_and_canceled().await;
    stage.their_payment_is_held_and_settled().await;
    stage.lnd_closes_together(&from_lnd).await;
    let ours = stage.we_open().await;
    let again = stage.lnd_opens().await;
    stage.lnd_closes_by_force(&again).await;
    stage.we_close_by_force(ours).await;
    assert!(!stage.lnd.log().contains("Method not found"), "LND asks for something that the devnet does not know");
}

impl Stage {
    async fn mine(&self, blocks: u32) {
        self.net.mine(blocks, &[&self.ours]).await;
        self.lnd.caught_up(&self.net).await;
    }

    /// Both kinds of addresses that LND makes are paid.
    async fn coins(&self) {
        for kind in ["p2wkh", "p2tr"] {
            let address: Address<_> = text(&self.lnd.ask(&["newaddress", kind]).await["address"]).parse().unwrap();
            self.net.dev.fund(&address.require_network(Network::Regtest).unwrap(), Sat(COINS)).await.unwrap();
        }
        self.net.fund(&self.ours, Sat(COINS)).await;
        self.lnd.caught_up(&self.net).await;
        until("LND's coins", || async { (self.lnd.coins().await == 2 * COINS).then_some(()) }).await;
    }

    /// LND opens a channel and gives us a part of it. Returns its funding outpoint.
    async fn lnd_opens(&self) -> String {
        let us = self.ours.info().await.unwrap().node_id;
        let (capacity, pushed) = (CAPACITY.to_string(), PUSHED.to_string());
        let open = ["openchannel", "--node_key", &us, "--local_amt", &capacity, "--push_amt", &pushed];
        let funding = text(&self.lnd.ask(&open).await["funding_txid"]);
        self.net.dev.wait_for_tx(funding.parse().unwrap()).await.unwrap();
        self.mine(6).await;
        let channel = until("the channel from LND", || async {
            let channels = self.ours.list_channels().await.unwrap();
            channels.into_iter().find(|c| c.usable && c.funding.as_ref().is_some_and(|f| f.starts_with(&funding)))
        })
        .await;
        let point = channel.funding.unwrap();
        self.lnd_can_use(&point).await;
        point
    }

    async fn we_open(&self) -> ChannelId {
        let peer = self.lnd.id().await;
        let (capacity, push) = (Sat(CAPACITY), Sat(PUSHED).to_msat().unwrap());
        let request = node::OpenChannel { peer, capacity, push, announced: false };
        let channel = self.ours.open_channel(request).await.unwrap();
        until("our funding transaction", || async { (self.waiting().await > 0).then_some(()) }).await;
        self.mine(6).await;
        usable(&self.ours, &channel).await;
        channel
    }

    async fn lnd_can_use(&self, point: &str) {
        until("LND to use the channel", || async {
            let list = self.lnd.ask(&["listchannels", "--active_only"]).await;
            list["channels"].as_array()?.iter().any(|c| c["channel_point"] == point).then_some(())
        })
        .await;
    }

    async fn waiting(&self) -> usize {
        self.net.dev.mempool().await.unwrap().len()
    }

    async fn payments(&self) {
        let request = InvoiceRequest { amount: Some(AMOUNT), description: "for LND".into(), expiry_secs: 3600 };
        let invoice = self.ours.create_invoice(request).await.unwrap();
        // A channel that LND lists as active may have no balance for its router for a moment yet.
        until("LND to pay", || async {
            let paid = self.lnd.try_ask(&["payinvoice", "--force", "--json", &invoice]).await.ok()?;
            (paid["status"] == "SUCCEEDED").then_some(())
        })
        .await;
        let amount = AMOUNT_SAT.to_string();
        let invoice = text(&self.lnd.ask(&["addinvoice", "--amt", &amount]).await["payment_request"]);
        let id = pay(&self.ours, &invoice).await.unwrap();
        succeeds(&self.ours, id).await;
    }

    async fn our_payment_is_held_and_settled(&self) {
        let secret = secret("held by LND");
        let (hash, preimage) = (secret.hash().to_string(), hex(&secret));
        let amount = AMOUNT_SAT.to_string();
        let invoice = text(&self.lnd.ask(&["addholdinvoice", &hash, &amount]).await["payment_request"]);
        let id = pay(&self.ours, &invoice).await.unwrap();
        self.lnd_invoice_is(&hash, "ACCEPTED").await;
        assert_eq!(self.ours.lookup_payment(id).await.unwrap().state, PaymentState::InFlight);
        self.lnd.ask(&["settleinvoice", &preimage]).await;
        assert_eq!(succeeds(&self.ours, id).await, secret);
        self.lnd_invoice_is(&hash, "SETTLED").await;
    }

    async fn lnd_invoice_is(&self, hash: &str, state: &str) {
        until(&format!("LND's invoice to be {state}"), || async {
            (self.lnd.ask(&["lookupinvoice", hash]).await["state"] == state).then_some(())
        })
        .await;
    }

    async fn their_payment_is_held_and_canceled(&self) {
        let secret = secret("held by us, canceled");
        let paying = self.lnd_is_held(&secret).await;
        self.ours.cancel(secret.hash()).await.unwrap();
        hold_becomes(&self.ours, secret.hash(), HoldState::Canceled).await;
        assert!(!paying.await.unwrap(), "LND must see its payment fail");
        assert_eq!(self.lnd_payment(&secret).await, ("FAILED".to_owned(), String::new()));
    }

    async fn their_payment_is_held_and_settled(&self) {
        let secret = secret("held by us, settled");
        let paying = self.lnd_is_held(&secret).await;
        self.ours.settle(secret.clone()).await.unwrap();
        hold_becomes(&self.ours, secret.hash(), HoldState::Settled).await;
        assert!(paying.await.unwrap(), "LND must see its payment succeed");
        assert_eq!(self.lnd_payment(&secret).await, ("SUCCEEDED".to_owned(), hex(&secret)));
    }

    /// LND pays a hold invoice of ours, with a hold of 300 blocks.
    async fn lnd_is_held(&self, secret: &Preimage) -> JoinHandle<bool> {
        let invoice = self.ours.create_hold_invoice(hold_request(secret.hash(), AMOUNT, 300)).await.unwrap();
        let paying = self.lnd.pays(&invoice);
        let held = hold_becomes(&self.ours, secret.hash(), HoldState::Accepted).await;
        let height = self.net.dev.height();
        assert!(held.expiry_height.unwrap().blocks_after(height) >= 300);
        paying
    }

    /// How the payment ended for LND, and the preimage that it got.
    async fn lnd_payment(&self, secret: &Preimage) -> (String, String) {
        let payments = self.lnd.ask(&["listpayments", "--include_incomplete"]).await;
        let hash = secret.hash().to_string();
        let found = payments["payments"].as_array().unwrap().iter().find(|p| p["payment_hash"] == hash.as_str());
        let found = found.unwrap_or_else(|| panic!("no payment of {hash}: {payments}"));
        let preimage = text(&found["payment_preimage"]);
        (text(&found["status"]), if preimage.chars().all(|c| c == '0') { String::new() } else { preimage })
    }

    async fn lnd_closes_together(&self, point: &str) {
        let before = (self.lnd.coins().await, self.our_coins().await);
        self.lnd.ask(&["closechannel", "--chan_point", point]).await;
        self.mine_until("the channel closed together", async || {
            self.lnd.coins().await > before.0 && self.our_coins().await > before.1
        })
        .await;
        self.is_gone(point).await;
        // The payments in between went back and forth but for one that we kept.
        let (lnds, own) = (self.lnd.coins().await - before.0, self.our_coins().await - before.1);
        assert_eq!(own, PUSHED, "we got {AMOUNT_SAT} twice and paid it twice");
        assert!(lnds < CAPACITY - PUSHED && lnds > CAPACITY - PUSHED - 10_000, "LND pays the fee: {lnds}");
    }

    async fn lnd_closes_by_force(&self, point: &str) {
        let before = (self.lnd.coins().await, self.our_coins().await);
        self.lnd.ask(&["closechannel", "--force", "--chan_point", point]).await;
        until("LND's commitment", || async { (self.waiting().await > 0).then_some(()) }).await;
        self.mine_until("our part of LND's commitment", async || self.our_coins().await > before.1).await;
        let own = self.our_coins().await - before.1;
        assert!(own > PUSHED - 10_000, "what was ours, less the sweep: {own}");
        self.mine(DELAY.into()).await;
        self.mine_until("LND's part after its delay", async || {
            self.lnd.coins().await > before.0 + CAPACITY - PUSHED - 20_000
        })
        .await;
        until("LND to be done with the channel", || async {
            let pending = self.lnd.ask(&["pendingchannels"]).await;
            pending["pending_force_closing_channels"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
        self.is_gone(point).await;
    }

    async fn we_close_by_force(&self, channel: ChannelId) {
        let before = (self.lnd.coins().await, self.our_coins().await);
        self.ours.close_channel(channel, true).await.unwrap();
        until("our commitment", || async { (self.waiting().await > 0).then_some(()) }).await;
        self.mine_until("LND's part of our commitment", async || self.lnd.coins().await > before.0 + PUSHED - 20_000)
            .await;
        self.mine(DELAY.into()).await;
        self.mine_until("our part after its delay", async || {
            self.our_coins().await > before.1 + CAPACITY - PUSHED - 20_000
        })
        .await;
    }

    async fn is_gone(&self, point: &str) {
        let channels = self.ours.list_channels().await.unwrap();
        let left = channels.iter().find(|c| c.funding.as_deref() == Some(point) && c.state != ChannelState::Closing);
        assert_eq!(left, None);
    }

    async fn our_coins(&self) -> u64 {
        self.ours.balances().await.unwrap().onchain.0
    }

    /// Finds blocks one at a time, with time for everybody to answer each.
    async fn mine_until(&self, what: &str, mut happened: impl AsyncFnMut() -> bool) {
        for _ in 0..DUE_BLOCKS {
            if happened().await {
                return;
            }
            self.mine(1).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("mined {DUE_BLOCKS} blocks in vain: {what}\n{}", self.lnd.log_end());
    }
}

fn hex(secret: &Preimage) -> String {
    units::hex32(secret.expose())
}
