//! Routes that speak to the market: listings, bids, trades.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Deserialize;
use trade::{MessageId, TradeId};

use super::types::{
    AdvertView, Adverts, BidRequest, ChatRequest, ChatView, ErrorKind, ListingReply, ListingRequest, Listings,
    OrderReply, OrderRequest, SellRequest, StallView, Status, StepRequest, TradeReply, TradeView,
};
use super::{ApiError, Body, Params};
use crate::running::Running;

/// Which trade.
#[derive(Deserialize, JsonSchema)]
pub(super) struct OfTrade {
    /// Its id.
    trade: String,
}

/// Which listing.
#[derive(Deserialize, JsonSchema)]
pub(super) struct OfListing {
    /// Its id.
    listing: String,
}

type Daemon = State<Arc<Running>>;
type Reply<T> = Result<Json<T>, ApiError>;

pub(super) async fn status(State(daemon): Daemon) -> Reply<Status> {
    Ok(Json(daemon.status().await?))
}

pub(super) async fn listings(State(daemon): Daemon) -> Reply<Listings> {
    Ok(Json(daemon.listings().await?))
}

pub(super) async fn adverts(State(daemon): Daemon) -> Reply<Adverts> {
    let known = daemon.listings().await?;
    Ok(Json(daemon.adverts(&known.listings).await?))
}

/// Which board is asked; all of them when none is named.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Board {
    /// Its address.
    board: Option<String>,
}

pub(super) async fn orders(State(daemon): Daemon, Params(of): Params<Board>) -> Reply<Vec<AdvertView>> {
    Ok(Json(daemon.orders(of.board.as_deref()).await?))
}

pub(super) async fn publish_order(State(daemon): Daemon, Body(request): Body<OrderRequest>) -> Reply<OrderReply> {
    Ok(Json(daemon.publish_order(request).await?))
}

pub(super) async fn sell(State(daemon): Daemon, Body(request): Body<SellRequest>) -> Reply<ListingReply> {
    Ok(Json(ListingReply { listing: daemon.sell(request).await? }))
}

pub(super) async fn bid(State(daemon): Daemon, Body(request): Body<BidRequest>) -> Reply<TradeReply> {
    Ok(Json(TradeReply { trade: daemon.bid(request).await? }))
}

pub(super) async fn trades(State(daemon): Daemon) -> Reply<Vec<TradeView>> {
    Ok(Json(daemon.trades().await?))
}

pub(super) async fn trade(State(daemon): Daemon, Path(of): Path<OfTrade>) -> Reply<TradeView> {
    Ok(Json(daemon.trade(parse(&of.trade)?).await?))
}

pub(super) async fn step(
    State(daemon): Daemon,
    Path(of): Path<OfTrade>,
    Body(request): Body<StepRequest>,
) -> Reply<TradeView> {
    Ok(Json(daemon.step(parse(&of.trade)?, request).await?))
}

pub(super) async fn stalls(State(daemon): Daemon) -> Reply<Vec<StallView>> {
    Ok(Json(daemon.stalls().await?))
}

pub(super) async fn listing(
    State(daemon): Daemon,
    Path(of): Path<OfListing>,
    Body(request): Body<ListingRequest>,
) -> Reply<StallView> {
    let id: MessageId = of
        .listing
        .parse()
        .map_err(|e| ApiError::new(ErrorKind::Usage, format!("{:?} is no id of a listing: {e}", of.listing)))?;
    Ok(Json(daemon.change_listing(id, request).await?))
}

pub(super) async fn chat(State(daemon): Daemon, Path(of): Path<OfTrade>) -> Reply<Vec<ChatView>> {
    Ok(Json(daemon.chat(parse(&of.trade)?).await?))
}

pub(super) async fn say(
    State(daemon): Daemon,
    Path(of): Path<OfTrade>,
    Body(request): Body<ChatRequest>,
) -> Reply<ChatView> {
    Ok(Json(daemon.say(parse(&of.trade)?, request).await?))
}

fn parse(text: &str) -> Result<TradeId, ApiError> {
    text.parse().map_err(|e| ApiError::new(ErrorKind::Usage, format!("{text:?} is no trade id: {e}")))
}
