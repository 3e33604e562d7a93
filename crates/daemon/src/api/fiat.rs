//! Routes and shapes of orders for bitcoin against money of a country.

use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trade::{Currency, EscrowTerms, FiatSide, MessageId, Money, PartyKey, Premium};
use units::Unix;

use super::access::{Scope, get, post};
use super::types::{ListingReply, TradeReply};
use super::{ApiError, Body, Params};
use crate::desk::DeskError;
use crate::running::Running;

/// `POST /v1/fiat/orders`: lists an order that buys or sells bitcoin.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FiatOrderRequest {
    /// What we do with bitcoin.
    #[serde(default = "buy")]
    pub side: FiatSide,
    /// ISO 4217.
    pub currency: Currency,
    /// Least amount of it, a decimal number in a string.
    pub min: Money,
    /// Most.
    pub max: Money,
    /// Per cent above the market price that is paid for bitcoin.
    #[serde(default)]
    pub premium_percent: Premium,
    /// How the money can be sent.
    pub methods: Vec<String>,
    /// How long a bid on a quoted rate stands, 60 to 86400 seconds.
    #[serde(default = "quarter")]
    pub max_quote_age_secs: u32,
    /// Up to 2000 characters.
    #[serde(default)]
    pub description: String,
    /// How many may take it.
    #[serde(default = "one")]
    pub stock: u32,
    /// The escrow terms; the payer is who sells bitcoin.
    pub escrow: EscrowTerms,
    /// The most that the arbiter may charge for each trade; of an order that sells, because who sells pays it.
    #[serde(default)]
    pub max_arbiter_fee_sat: u64,
    /// Lock nothing before a `pay` step; of an order that sells.
    #[serde(default)]
    pub pay_by_hand: bool,
}

fn buy() -> FiatSide {
    FiatSide::Buy
}

fn quarter() -> u32 {
    900
}

fn one() -> u32 {
    1
}

/// `POST /v1/fiat/take`: takes an order. One that buys bitcoin is bid on. One that sells is answered: the trade appears as soon as
/// its maker's daemon bids, and our daemon accepts by itself what quotes about our own price.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FiatTakeRequest {
    /// The order's listing.
    pub listing: MessageId,
    /// How much of its currency.
    pub amount: Money,
    /// One of its methods; needed where it names more than one.
    #[serde(default)]
    pub method: Option<String>,
    /// Which of its arbiters; none for the first.
    #[serde(default)]
    pub arbiter: Option<PartyKey>,
    /// The most that the arbiter may charge; of an order that buys, because who sells bitcoin pays it.
    #[serde(default)]
    pub max_arbiter_fee_sat: u64,
    /// Lock nothing before a `pay` step; of an order that buys.
    #[serde(default)]
    pub pay_by_hand: bool,
}

/// `GET /v1/fiat/rate?currency=EUR`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RateView {
    /// The currency.
    pub currency: Currency,
    /// Market price of one bitcoin.
    pub price: Money,
    /// When it was seen.
    pub at: Unix,
    /// Of how many sources it is the median; 0 for one that the configuration fixes.
    pub sources: usize,
}

pub(super) fn routes() -> ApiRouter<Arc<Running>> {
    ApiRouter::new()
        .api_route(
            "/v1/fiat/orders",
            post(Scope::Trade, "List an order that buys or sells bitcoin for money of a country", order),
        )
        .api_route("/v1/fiat/take", post(Scope::Trade, "Take such an order", take))
        .api_route("/v1/fiat/rate", get(Scope::Read, "The market price of bitcoin", rate))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    currency: Currency,
}

type Daemon = State<Arc<Running>>;

async fn order(State(daemon): Daemon, Body(request): Body<FiatOrderRequest>) -> Result<Json<ListingReply>, ApiError> {
    Ok(Json(ListingReply { listing: daemon.list_fiat(request).await? }))
}

async fn take(State(daemon): Daemon, Body(request): Body<FiatTakeRequest>) -> Result<Json<TradeReply>, ApiError> {
    Ok(Json(TradeReply { trade: daemon.take_fiat(request).await? }))
}

async fn rate(State(daemon): Daemon, Params(asked): Params<Asked>) -> Result<Json<RateView>, ApiError> {
    Ok(Json(daemon.rate(asked.currency).map_err(DeskError::from)?))
}
