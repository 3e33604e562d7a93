//! Routes and shapes of reputation.

use std::collections::BTreeMap;
use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trade::{MessageId, PartyKey, Role};
use units::{Height, Sat, Unix};

use super::access::{Scope, get, post};
use super::types::ErrorKind;
use super::{ApiError, Params};
use crate::running::Running;
use crate::standing::Of;

/// `GET /v1/reputation?of=KEY` or `?of=wss://board`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReputationView {
    /// Who or what was asked about.
    pub of: String,
    /// One record for each part: as a user, as an arbiter, as a board.
    pub records: Vec<RecordView>,
    /// Ratings that were read for it, of whomever, and that count.
    pub read: usize,
    /// Further ratings by the same rater for the same payment.
    pub repeated: usize,
    /// Ratings that do not count, by the code of the reason.
    pub refused: BTreeMap<String, usize>,
}

/// What is rated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RatedView {
    /// A buyer or a seller.
    User,
    /// An arbiter.
    Arbiter,
    /// A board.
    Board,
}

/// DOMP's score with its parts, and standing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecordView {
    /// As what it is rated.
    pub rated: RatedView,
    /// Σ rating · value / Σ value, 1 to 5; none without ratings. Anybody who has two keys can make it what it likes.
    pub score: Option<f64>,
    /// How many ratings.
    pub count: usize,
    /// How many show the secret of a settled payment.
    pub settled: usize,
    /// How many are of trades that ended by a ruling.
    pub disputed: usize,
    /// How many different raters.
    pub raters: usize,
    /// Sum of the values, each rounded down.
    pub value_sat: Sat,
    /// Lowest height.
    pub from_height: Height,
    /// Highest height.
    pub to_height: Height,
    /// What our user is to make of it.
    pub standing: StandingView,
    /// The ratings, newest first, at most 200.
    pub ratings: Vec<RatingView>,
}

/// Standing with our user.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StandingView {
    /// 1 to 5; 3 when nothing is known.
    pub rating: f64,
    /// What our user said itself.
    pub own: Option<f64>,
    /// How many raters our user's trust reaches.
    pub reached: usize,
    /// What they weigh together, in acquaintances.
    pub weight: f64,
    /// What they say.
    pub reached_rating: Option<f64>,
    /// How many raters it does not reach.
    pub strangers: usize,
    /// What those say; together they weigh as one rater more, at most a twentieth of an acquaintance.
    pub strangers_rating: Option<f64>,
}

/// One rating.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RatingView {
    /// Id of the event.
    pub id: MessageId,
    /// When it was made, as the rater says.
    pub at: Unix,
    /// The rater: its identity where it linked one, else the key of the trade.
    pub rater: PartyKey,
    /// The part that the rater had.
    pub role: Role,
    /// 1 to 5.
    pub rating: u8,
    /// In words.
    pub comment: Option<String>,
    /// Value of the trade, rounded down.
    pub value_sat: Sat,
    /// Height at which the rater pledged.
    pub height: Height,
    /// It shows the secret of a settled payment.
    pub settled: bool,
    /// The trade ended by a ruling.
    pub disputed: bool,
    /// What the rater weighs with our user, in acquaintances.
    pub weight: f64,
}

/// `POST /v1/reputation/labels`, a body of lines: labels, or ratings themselves
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelsTaken {
    /// Ratings that are new here.
    pub taken: usize,
    /// Ratings that were here already.
    pub known: usize,
    /// Lines that hold no rating that counts, by the code of the reason.
    pub refused: BTreeMap<String, usize>,
}

pub(super) fn routes() -> ApiRouter<Arc<Running>> {
    let about = "Ratings of a key or a board, and what our user is to make of them";
    ApiRouter::new()
        .api_route("/v1/reputation", get(Scope::Read, about, reputation))
        .api_route("/v1/reputation/labels", get(Scope::Read, "The same ratings as labels (NIP-32)", labels))
        .api_route("/v1/reputation/labels", post(Scope::Trade, "Take ratings from lines of labels", take_labels))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// A key, or the address of a board.
    of: String,
}

fn parse(of: &str) -> Result<Of, ApiError> {
    of.parse().map_err(|why| ApiError::new(ErrorKind::Usage, why))
}

/// Each label is one line of JSON.
async fn labels(
    State(daemon): State<Arc<Running>>,
    Params(asked): Params<Asked>,
) -> Result<Json<Vec<String>>, ApiError> {
    Ok(Json(daemon.labels(&parse(&asked.of)?).await?))
}

async fn take_labels(State(daemon): State<Arc<Running>>, lines: String) -> Result<Json<LabelsTaken>, ApiError> {
    Ok(Json(daemon.take_labels(&lines).await?))
}

async fn reputation(
    State(daemon): State<Arc<Running>>,
    Params(asked): Params<Asked>,
) -> Result<Json<ReputationView>, ApiError> {
    Ok(Json(daemon.reputation(&parse(&asked.of)?).await?))
}
