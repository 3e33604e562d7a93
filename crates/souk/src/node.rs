//! `souk node …`: the Lightning node behind the daemon.

use std::time::Duration;

use ::node::{Balances, Channel, NodeInfo, Payment, PaymentState, PeerAddress};
use daemon::api::types::{
    AddressReply, CloseRequest, InvoiceReply, MakeInvoice, MakeOffer, OpenReply, OpenRequest, PayRequest, SendReply,
    SendRequest,
};

use crate::args::Node;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};

/// How often a payment under way is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn obey(client: &Client, what: Node, show: &Show) -> Result<(), Failure> {
    match what {
        Node::Info => {
            let info: NodeInfo = client.get("/v1/node").await?;
            show.named(&info, &info.node_id, in_words)
        }
        Node::Connect { peer } => connect(client, &peer, show).await,
        Node::Open { node_id, capacity, push, announced } => {
            let push_msat = push.checked_mul(1000).ok_or_else(|| Failure::usage("--push is too large"))?;
            let request = OpenRequest { node_id, capacity_sat: capacity, push_msat, announced };
            let reply: OpenReply = client.post("/v1/node/open", &request).await?;
            show.answer(&reply, |r| format!("channel {} is being opened", r.channel.0))
        }
        Node::Close { channel, force } => {
            client.post::<()>("/v1/node/close", &CloseRequest { channel, force }).await?;
            show.answer(&(), |()| "the channel is being closed".to_owned())
        }
        Node::Channels => show.answer(&client.get::<Vec<Channel>>("/v1/node/channels").await?, |c| channels(c)),
        Node::Balance => show.answer(&client.get::<Balances>("/v1/node/balances").await?, balances),
        Node::Address => {
            let reply: AddressReply = client.post("/v1/node/address", &()).await?;
            show.named(&reply, &reply.address, |r| r.address.clone())?;
            show.qr(&reply.address)
        }
        Node::Send { address, amount, fee_rate } => {
            let request = SendRequest { address, amount_sat: amount, fee_rate_sat_per_vb: fee_rate };
            show.answer(&client.post::<SendReply>("/v1/node/send", &request).await?, |r| format!("sent in {}", r.txid))
        }
        Node::Invoice { amount, description, expiry } => {
            let request = MakeInvoice { amount_msat: msat(amount)?, description, expiry_secs: expiry };
            issued(client.post("/v1/node/invoice", &request).await?, show)
        }
        Node::Offer { amount, description } => {
            let request = MakeOffer { amount_msat: msat(amount)?, description, expiry_secs: None };
            issued(client.post("/v1/node/offer", &request).await?, show)
        }
        Node::Pay { payable, amount, max_fee } => {
            pay(client, PayRequest { payable, amount_msat: msat(amount)?, max_fee_msat: msat(max_fee)? }, show).await
        }
        Node::Payments => show.answer(&client.get::<Vec<Payment>>("/v1/node/payments").await?, |p| payments(p)),
    }
}

fn msat(sat: Option<u64>) -> Result<Option<u64>, Failure> {
    sat.map(|sat| sat.checked_mul(1000).ok_or_else(|| Failure::usage("the amount is too large"))).transpose()
}

async fn connect(client: &Client, peer: &str, show: &Show) -> Result<(), Failure> {
    let (node_id, address) =
        peer.split_once('@').ok_or_else(|| Failure::usage("a peer is written NODE_ID@HOST:PORT"))?;
    let peer = PeerAddress { node_id: node_id.to_owned(), address: address.to_owned() };
    client.post::<()>("/v1/node/connect", &peer).await?;
    show.answer(&(), |()| "connected".to_owned())
}

fn issued(reply: InvoiceReply, show: &Show) -> Result<(), Failure> {
    show.named(&reply, &reply.invoice, |r| r.invoice.clone())?;
    show.qr(&reply.invoice)
}

async fn pay(client: &Client, request: PayRequest, show: &Show) -> Result<(), Failure> {
    let started: Payment = client.post("/v1/node/pay", &request).await?;
    let mut payment = started;
    while payment.state == PaymentState::InFlight {
        tokio::time::sleep(LOOK_EVERY).await;
        let all: Vec<Payment> = client.get("/v1/node/payments").await?;
        payment = all
            .into_iter()
            .find(|p| p.id == payment.id)
            .ok_or_else(|| Failure::fault("the payment is no longer listed; see `souk node payments`"))?;
    }
    if let PaymentState::Failed { reason } = &payment.state {
        return Err(Failure::unreachable(format!("the payment failed: {reason}. Nothing was paid")));
    }
    show.answer(&payment, |p| format!("paid {} msat", p.amount))
}

fn in_words(info: &NodeInfo) -> String {
    let synced = if info.synced { "up to date" } else { "catching up" };
    let addresses = if info.addresses.is_empty() { "none".to_owned() } else { info.addresses.join(", ") };
    format!(
        "node id    {}\nnetwork    {}\nheight     {} ({synced})\naddresses  {addresses}\npeers      {}",
        info.node_id, info.network, info.height, info.peers
    )
}

fn channels(channels: &[Channel]) -> String {
    let row = |c: &Channel| {
        let state = if c.usable { "usable".to_owned() } else { format!("{:?}", c.state).to_lowercase() };
        let sat = |amount: units::Msat| amount.to_sat_floor().to_string();
        vec![
            short(&c.id.0),
            short(&c.peer),
            state,
            c.capacity.to_string(),
            sat(c.outbound),
            sat(c.inbound),
            c.htlcs.to_string(),
        ]
    };
    table(&["channel", "peer", "state", "size", "can send", "can receive", "HTLCs"], channels.iter().map(row).collect())
}

fn balances(b: &Balances) -> String {
    format!(
        "on chain      {:>16} sat\n  pending     {:>16} sat\nlightning     {:>16} msat\nfrom closing  {:>16} sat",
        b.onchain, b.onchain_pending, b.lightning, b.closing
    )
}

fn payments(payments: &[Payment]) -> String {
    let row = |p: &Payment| {
        let (state, fee) = match &p.state {
            PaymentState::InFlight => ("in flight".to_owned(), String::new()),
            PaymentState::Succeeded { fee, .. } => ("paid".to_owned(), fee.to_string()),
            PaymentState::Failed { reason } => (format!("failed: {reason}"), String::new()),
        };
        vec![short(units::hex32(&p.id.0)), p.amount.to_string(), fee, state]
    };
    table(&["payment", "msat", "fee msat", "state"], payments.iter().map(row).collect())
}
