//! Routes and shapes of arbiters: the inbox and the service of our own, and those that can be had.

use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::Json;
use axum::extract::State;
use reputation::{Claim, Service};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trade::{BondFate, MessageId, PartyKey, TradeId};
use units::{Height, Sat, Unix};

use super::ApiError;
use super::access::{Scope, get};
use super::types::FeeView;
use crate::running::Running;

/// `GET /v1/disputes`: a dispute that waits for the ruling of this daemon's user.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DisputeView {
    /// The trade.
    pub trade: TradeId,
    /// The listing; an arbiter is told its id alone.
    pub listing: MessageId,
    /// Who asked: `payer` or `payee`.
    pub asked_by: String,
    /// When it asked, by its own clock.
    pub asked_at: Unix,
    /// The price.
    pub price_sat: Sat,
    /// Parts into which it can be split.
    pub tranches: u8,
    /// A ruling can give the price, or a part of it, to the payee: the secrets are here.
    pub can_release: bool,
    /// The payer's bond; nothing where there is none.
    pub payer_bond_sat: Sat,
    /// The payee's bond, likewise.
    pub payee_bond_sat: Sat,
    /// `D_hard`: from this height on a ruling is void, and everything has gone back.
    pub before: Height,
    /// Blocks until then.
    pub blocks_left: u32,
    /// About when that is, at ten minutes a block.
    pub about: Unix,
    /// What we charge for the trade; none when we serve for nothing.
    pub fee: Option<FeeView>,
    /// What each side has disclosed to us, oldest first. There is nothing else that we know.
    pub statements: Vec<StatementView>,
    /// A command that rules; the numbers, and what becomes of bonds, are for the arbiter to say.
    pub command: String,
}

/// Something that a side said to the arbiter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementView {
    /// `payer`, `payee`, or `arbiter` for our own chat.
    pub by: String,
    /// When, by the clock of who said it.
    pub at: Unix,
    /// `request`, `payment`, `shipment`, `dispute`, `complaint`, `receipt`, `refund`, `cancel`, `chat`.
    pub what: String,
    /// In its words; empty where it has none.
    pub text: String,
    /// It said something else for the same step before: both are kept.
    pub contradicts: bool,
}

/// What becomes of a bond, as the command line names it.
pub(crate) fn fate(fate: BondFate) -> &'static str {
    match fate {
        BondFate::Return => "return",
        BondFate::Forfeit => "forfeit",
    }
}

/// Service of an arbiter, in numbers of trades.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// It gave its word to serve.
    pub appointed: u64,
    /// Of those: money was locked, as far as it heard.
    pub locked: u64,
    /// Of those: over, and nobody asked for a ruling.
    pub quiet: u64,
    /// Of those that were locked: somebody asked for a ruling.
    pub disputed: u64,
    /// Of the disputes: the whole price was ruled to the payer.
    pub for_payer: u64,
    /// The whole price was ruled to the payee.
    pub for_payee: u64,
    /// The price was split.
    pub split: u64,
    /// The two came to terms before it ruled.
    pub withdrawn: u64,
    /// It did not rule in time, and everything went back.
    pub missed: u64,
    /// Nobody asked for a ruling, and it was not there to apply the default on silence.
    pub missed_defaults: u64,
    /// Seconds from hearing of a dispute to the ruling, the middle of all; none before the first ruling.
    pub median_secs: Option<u64>,
    /// The longest.
    pub worst_secs: Option<u64>,
    /// What it was paid.
    pub fees_sat: Sat,
}

impl ServiceView {
    pub(crate) fn of(s: &Service) -> ServiceView {
        ServiceView {
            appointed: s.appointed,
            locked: s.locked,
            quiet: s.quiet,
            disputed: s.disputed,
            for_payer: s.for_payer,
            for_payee: s.for_payee,
            split: s.split,
            withdrawn: s.withdrawn,
            missed: s.missed,
            missed_defaults: s.missed_defaults,
            median_secs: s.secs.map(|times| times.median),
            worst_secs: s.secs.map(|times| times.worst),
            fees_sat: s.fees,
        }
    }
}

/// `GET /v1/arbiter/stats`: what our own log says of our service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatsView {
    /// The key under which we serve.
    pub arbiter: PartyKey,
    /// The role is on.
    pub serving: bool,
    /// The numbers are told to everybody, rounded, once a day.
    pub published: bool,
    /// The numbers.
    #[serde(flatten)]
    pub service: ServiceView,
}

/// `GET /v1/arbiters`: an arbiter that listings name, that offers itself, or that served in a trade of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArbiterView {
    /// Its key.
    pub key: PartyKey,
    /// How many listings on the boards name it.
    pub listings: usize,
    /// What it says of itself, where it does.
    pub claim: Option<ClaimView>,
    /// Ratings show more escrows than it claims to have been appointed in.
    pub contradicted: bool,
    /// What ratings show that anybody can check.
    pub attested: AttestedView,
    /// What our own trades saw of it.
    pub seen: Option<SeenView>,
}

/// What an arbiter says of itself (kind 38322). Nobody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimView {
    /// When, by its own clock.
    pub at: Unix,
    /// How it rules, in its words.
    pub policy: String,
    /// What it charges for a trade.
    pub fee_sat: Sat,
    /// What it charges besides, in millionths of the first bid.
    pub fee_ppm: u32,
    /// Its service; times in whole hours, fees rounded down.
    pub service: ServiceView,
}

impl ClaimView {
    pub(crate) fn of(claim: &Claim) -> ClaimView {
        ClaimView {
            at: claim.at,
            policy: claim.policy.clone(),
            fee_sat: claim.fee,
            fee_ppm: claim.fee_ppm,
            service: ServiceView::of(&claim.service),
        }
    }
}

/// What ratings of an arbiter show, each with the pledges of both sides and of the arbiter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttestedView {
    /// Different escrows that it pledged to serve in.
    pub escrows: u64,
    /// Of those: a rater says that it ruled.
    pub ruled: u64,
    /// Different raters.
    pub raters: usize,
    /// DOMP's score, 1 to 5; none without ratings.
    pub score: Option<f64>,
    /// What the ratings weigh together: each the value of its escrow, rounded down.
    pub value_sat: Sat,
}

/// What our own trades saw of an arbiter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeenView {
    /// Trades whose money was locked.
    pub trades: u64,
    /// Somebody asked for a ruling.
    pub disputed: u64,
    /// It ruled the whole price to the payer.
    pub for_payer: u64,
    /// To the payee.
    pub for_payee: u64,
    /// It split the price.
    pub split: u64,
    /// It was silent until the deadline.
    pub silent: u64,
    /// What we paid it.
    pub fees_sat: Sat,
}

/// The arbiter's routes.
pub(super) fn routes() -> ApiRouter<Arc<Running>> {
    ApiRouter::new()
        .api_route("/v1/disputes", get(Scope::Read, "Disputes that wait for our ruling", disputes))
        .api_route("/v1/arbiter/stats", get(Scope::Read, "What we did as an arbiter", stats))
        .api_route("/v1/arbiters", get(Scope::Read, "Arbiters that can be had, and what is known of them", arbiters))
}

async fn stats(State(daemon): State<Arc<Running>>) -> Result<Json<StatsView>, ApiError> {
    Ok(Json(daemon.arbiter_stats().await?))
}

async fn arbiters(State(daemon): State<Arc<Running>>) -> Result<Json<Vec<ArbiterView>>, ApiError> {
    Ok(Json(daemon.arbiters().await?))
}

async fn disputes(State(daemon): State<Arc<Running>>) -> Result<Json<Vec<DisputeView>>, ApiError> {
    Ok(Json(daemon.disputes().await?))
}
