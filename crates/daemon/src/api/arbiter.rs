//! Routes and shapes of the arbiter: its inbox.

use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trade::{BondFate, MessageId, TradeId};
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

/// The arbiter's routes.
pub(super) fn routes() -> ApiRouter<Arc<Running>> {
    ApiRouter::new().api_route("/v1/disputes", get(Scope::Read, "Disputes that wait for our ruling", disputes))
}

async fn disputes(State(daemon): State<Arc<Running>>) -> Result<Json<Vec<DisputeView>>, ApiError> {
    Ok(Json(daemon.disputes().await?))
}
