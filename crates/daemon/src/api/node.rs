//! Routes that speak to the Lightning node.

use std::sync::Arc;

use ::node::{
    Balances, Channel, ChannelId, Description, InvoiceRequest, Node, NodeInfo, OfferRequest, OpenChannel, PayLimits,
    Payable, Payment, PeerAddress,
};
use axum::Json;
use axum::extract::State;
use units::{Msat, Sat};

use super::types::{
    AddressReply, CloseRequest, ErrorKind, InvoiceReply, MakeInvoice, MakeOffer, OpenReply, OpenRequest, PayRequest,
    SendReply, SendRequest,
};
use super::{ApiError, Body};
use crate::running::Running;

type Daemon = State<Arc<Running>>;
type Reply<T> = Result<Json<T>, ApiError>;

/// Most payments that one answer lists.
const PAYMENTS_MAX: usize = 1000;
/// Longest description of an invoice, in bytes (BOLT#11 `d`).
const DESCRIPTION_BYTES_MAX: usize = 639;

pub(super) async fn info(State(daemon): Daemon) -> Reply<NodeInfo> {
    Ok(Json(node(&daemon)?.info().await?))
}

pub(super) async fn channels(State(daemon): Daemon) -> Reply<Vec<Channel>> {
    Ok(Json(node(&daemon)?.list_channels().await?))
}

pub(super) async fn balances(State(daemon): Daemon) -> Reply<Balances> {
    Ok(Json(node(&daemon)?.balances().await?))
}

pub(super) async fn payments(State(daemon): Daemon) -> Reply<Vec<Payment>> {
    Ok(Json(node(&daemon)?.list_payments(PAYMENTS_MAX).await?))
}

pub(super) async fn connect(State(daemon): Daemon, Body(peer): Body<PeerAddress>) -> Reply<()> {
    Ok(Json(node(&daemon)?.connect_peer(peer).await?))
}

pub(super) async fn open(State(daemon): Daemon, Body(request): Body<OpenRequest>) -> Reply<OpenReply> {
    let request = OpenChannel {
        peer: request.node_id,
        capacity: Sat(request.capacity_sat),
        push: Msat(request.push_msat),
        announced: request.announced,
    };
    Ok(Json(OpenReply { channel: node(&daemon)?.open_channel(request).await? }))
}

pub(super) async fn close(State(daemon): Daemon, Body(request): Body<CloseRequest>) -> Reply<()> {
    Ok(Json(node(&daemon)?.close_channel(ChannelId(request.channel), request.force).await?))
}

pub(super) async fn address(State(daemon): Daemon) -> Reply<AddressReply> {
    Ok(Json(AddressReply { address: node(&daemon)?.new_address().await? }))
}

pub(super) async fn send(State(daemon): Daemon, Body(request): Body<SendRequest>) -> Reply<SendReply> {
    let amount = Sat(request.amount_sat);
    let txid = node(&daemon)?.send_onchain(&request.address, amount, request.fee_rate_sat_per_vb).await?;
    Ok(Json(SendReply { txid }))
}

pub(super) async fn invoice(State(daemon): Daemon, Body(request): Body<MakeInvoice>) -> Reply<InvoiceReply> {
    check_description(&request.description)?;
    let request = InvoiceRequest {
        amount: request.amount_msat.map(Msat),
        description: Description::Text(request.description),
        expiry_secs: request.expiry_secs,
    };
    Ok(Json(InvoiceReply { invoice: node(&daemon)?.create_invoice(request).await? }))
}

pub(super) async fn offer(State(daemon): Daemon, Body(request): Body<MakeOffer>) -> Reply<InvoiceReply> {
    check_description(&request.description)?;
    let request = OfferRequest {
        amount: request.amount_msat.map(Msat),
        description: request.description,
        expiry_secs: request.expiry_secs,
    };
    Ok(Json(InvoiceReply { invoice: node(&daemon)?.create_offer(request).await? }))
}

/// Starts the payment and answers at once; `souk node pay` follows it by asking again.
pub(super) async fn pay(State(daemon): Daemon, Body(request): Body<PayRequest>) -> Reply<Payment> {
    let amount = request.amount_msat.map(Msat);
    let payable = if request.payable.to_ascii_lowercase().starts_with("lno") {
        Payable::Bolt12 { offer: request.payable, amount, payer_note: None }
    } else {
        Payable::Bolt11 { invoice: request.payable, amount }
    };
    let limits = PayLimits { max_fee: request.max_fee_msat.map(Msat), ..PayLimits::default() };
    let id = node(&daemon)?.pay(payable, limits).await?;
    Ok(Json(node(&daemon)?.lookup_payment(id).await?))
}

fn check_description(text: &str) -> Result<(), ApiError> {
    if text.len() > DESCRIPTION_BYTES_MAX {
        let message = format!("the description has {} bytes, at most {DESCRIPTION_BYTES_MAX} are allowed", text.len());
        return Err(ApiError::new(ErrorKind::Usage, message));
    }
    Ok(())
}

fn node(daemon: &Running) -> Result<&dyn Node, ApiError> {
    let none = || ApiError::new(ErrorKind::Usage, "this daemon is a bare board and has no Lightning node");
    daemon.node.as_deref().ok_or_else(none)
}
