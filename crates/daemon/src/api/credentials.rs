//! Routes and shapes of credentials: what boards ask for, what is in the purse, and buying more. What a credential consists of is told
//! to nobody.

use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::Json;
use axum::extract::{Path, State};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trade::PartyKey;
use units::{Msat, Preimage, Unix};

use super::access::{Scope, get, post};
use super::types::{ErrorBody, ErrorKind};
use super::{ApiError, Body, Params};
use crate::board_link::BoardError;
use crate::clock;
use crate::purse::buying::{BuyError, Buyer};
use crate::purse::line::{LineError, policy_of};
use crate::purse::{self, Batch};
use crate::running::Running;

/// `GET /v1/credentials`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CredentialsView {
    /// What there is.
    pub keysets: Vec<HeldView>,
    /// Batches that are under way, and those of which nothing came; the newest last.
    pub batches: Vec<BatchView>,
}

/// Credentials of one keyset of a board.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeldView {
    /// The board.
    pub board: String,
    /// The keyset's id.
    pub keyset: String,
    /// Not spent yet.
    pub free: usize,
    /// Shown for an event.
    pub used: usize,
    /// Given up, because the board would not take them.
    pub lost: usize,
    /// Until when the board takes them.
    pub until: Unix,
}

/// A batch that is being bought.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BatchView {
    /// Its name, which the board knows too: the quote's.
    pub quote: String,
    /// The board.
    pub board: String,
    /// The keyset's id.
    pub keyset: String,
    /// How many credentials.
    pub count: usize,
    /// What it costs, routing not counted.
    pub price_msat: Msat,
    /// When it was ordered.
    pub ordered_at: Unix,
    /// `ordered`, `quoted`, `paying`, `paid`, `issued` or `failed`.
    pub state: String,
    /// Why it does not get on now, or why nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Stable name of the reason, when nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What proves that the board was paid, when it was and nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofView>,
}

/// The board's node signed who sells what to whom in the invoice, and the preimage shows that it was paid.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProofView {
    /// BOLT11 invoice.
    pub invoice: String,
    /// Its preimage, hex.
    pub preimage: String,
}

/// What one board says of credentials: an element of `GET /v1/credentials/policy`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PolicyView {
    /// The board.
    pub board: String,
    /// What it says; none where that cannot be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyTerms>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a board says of credentials.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PolicyTerms {
    /// The key that the board speaks with.
    pub key: PartyKey,
    /// Kinds of event that need one: single numbers and ranges.
    pub kinds: Vec<String>,
    /// Most credentials in a batch.
    pub batch_max: usize,
    /// What one costs now; none when it sells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_msat: Option<Msat>,
    /// Its keysets.
    pub keysets: Vec<KeysetView>,
}

/// A key that a board signs with.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeysetView {
    /// Its id.
    pub id: String,
    /// What one credential costs.
    pub price_msat: Msat,
    /// From when on it signs.
    pub issue_from: Unix,
    /// Until when.
    pub issue_until: Unix,
    /// Until when its credentials are taken.
    pub redeem_until: Unix,
}

/// `POST /v1/credentials/buy`: orders a batch. It is paid and fetched by the daemon from there, over restarts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuyCredentials {
    /// The board, one of those that the daemon uses.
    pub board: String,
    /// How many: 10, 50, 100 or 250.
    pub count: usize,
    /// The most that it may cost, routing not counted.
    pub max_msat: Msat,
}

pub(super) fn routes() -> ApiRouter<Arc<Running>> {
    ApiRouter::new()
        .api_route("/v1/credentials", get(Scope::Read, "Credentials of boards, and batches under way", credentials))
        .api_route("/v1/credentials/batches/{quote}", get(Scope::Read, "One batch", batch))
        .api_route("/v1/credentials/policy", get(Scope::Read, "What boards say of credentials", policy))
        .api_route("/v1/credentials/buy", post(Scope::Funds, "Buy a batch of credentials", buy))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    board: Option<String>,
}

/// Which batch.
#[derive(Deserialize, JsonSchema)]
struct OfBatch {
    /// Its name.
    quote: String,
}

type Daemon = State<Arc<Running>>;

async fn credentials(State(daemon): Daemon) -> Json<CredentialsView> {
    Json(daemon.credentials())
}

async fn batch(State(daemon): Daemon, Path(of): Path<OfBatch>) -> Result<Json<BatchView>, ApiError> {
    let none = || ApiError::new(ErrorKind::NotFound, "there is no such batch");
    Ok(Json(daemon.batch(&of.quote).ok_or_else(none)?))
}

async fn policy(State(daemon): Daemon, Params(asked): Params<Asked>) -> Result<Json<Vec<PolicyView>>, ApiError> {
    Ok(Json(daemon.credential_policies(asked.board.as_deref()).await?))
}

async fn buy(State(daemon): Daemon, Body(request): Body<BuyCredentials>) -> Result<Json<BatchView>, ApiError> {
    Ok(Json(daemon.buy_credentials(&request).await?))
}

impl Running {
    /// Credentials of boards, and batches under way.
    pub fn credentials(&self) -> CredentialsView {
        let held = |((board, keyset), count): ((String, credential::KeysetId), purse::Count)| {
            let purse::Count { free, used, lost, until } = count;
            HeldView { board, keyset: keyset.to_string(), free, used, lost, until }
        };
        CredentialsView {
            keysets: self.purse.counts().into_iter().map(held).collect(),
            batches: self.purse.unfinished().iter().map(|batch| self.view_batch(batch)).collect(),
        }
    }

    /// One batch, whatever came of it.
    pub(crate) fn batch(&self, quote: &str) -> Option<BatchView> {
        self.purse.batch_of(quote).map(|batch| self.view_batch(&batch))
    }

    /// What the boards that we use say of credentials, each the same on two connections; of one of them, or of all.
    pub(crate) async fn credential_policies(&self, board: Option<&str>) -> Result<Vec<PolicyView>, BuyError> {
        let of = match board {
            Some(board) => vec![self.board_of_ours(board)?],
            None => self.boards.iter().map(|link| link.url().to_owned()).collect(),
        };
        let ask = async |url: String| match policy_of(&url).await {
            Ok((policy, event)) => {
                self.postage.learn(&url, policy.clone(), &event);
                let terms = PolicyTerms {
                    key: PartyKey(policy.board),
                    kinds: policy.kinds(),
                    batch_max: policy.batch_max(),
                    price_msat: policy.sells(clock::unix()).map(|keyset| keyset.price),
                    keysets: policy.keysets.iter().map(KeysetView::of).collect(),
                };
                PolicyView { board: url, policy: Some(terms), trouble: None }
            }
            Err(error) => PolicyView { board: url, policy: None, trouble: Some(error.to_string()) },
        };
        Ok(join_all(of.into_iter().map(ask)).await)
    }

    /// Orders a batch.
    pub(crate) async fn buy_credentials(&self, request: &BuyCredentials) -> Result<BatchView, BuyError> {
        let board = self.board_of_ours(&request.board)?;
        let buyer: &Buyer = self.buyer.as_ref().ok_or(BuyError::NoNode)?;
        Ok(self.view_batch(&buyer.buy(&board, request.count, request.max_msat).await?))
    }

    /// Nobody makes this daemon knock at other doors.
    fn board_of_ours(&self, url: &str) -> Result<String, BuyError> {
        let same = |known: &&str| known.trim_end_matches('/') == url.trim_end_matches('/');
        let found = self.boards.iter().chain(&self.relays).map(|link| link.url()).find(same);
        found.map(ToOwned::to_owned).ok_or_else(|| BuyError::NotOurs(url.to_owned()))
    }

    fn view_batch(&self, batch: &Batch) -> BatchView {
        let (code, why, paid) = match &batch.state {
            purse::State::Failed { code, why, paid } => (Some(code.clone()), Some(why.clone()), paid.clone()),
            _ => (None, self.purse.trouble(batch.name()), None),
        };
        let proof =
            |(invoice, preimage): (String, Preimage)| ProofView { invoice, preimage: units::hex32(preimage.expose()) };
        BatchView {
            quote: batch.quote.clone(),
            board: batch.board.clone(),
            keyset: batch.keyset.id.to_string(),
            count: batch.count,
            price_msat: batch.amount().unwrap_or_default(),
            ordered_at: batch.at,
            state: batch.state.name().to_owned(),
            trouble: why,
            code,
            proof: paid.map(proof),
        }
    }
}

impl KeysetView {
    fn of(keyset: &credential::Keyset) -> KeysetView {
        KeysetView {
            id: keyset.id.to_string(),
            price_msat: keyset.price,
            issue_from: keyset.issue_from,
            issue_until: keyset.issue_until,
            redeem_until: keyset.redeem_until,
        }
    }
}

impl From<BuyError> for ApiError {
    fn from(error: BuyError) -> ApiError {
        let kind = match &error {
            BuyError::NotOurs(_) | BuyError::Count(_) | BuyError::TooMany(_) => ErrorKind::Usage,
            BuyError::Line(LineError::Board(BoardError::Unreachable(_)) | LineError::Document(..)) => {
                ErrorKind::Unreachable
            }
            BuyError::Line(LineError::Post(_)) | BuyError::Purse(_) => ErrorKind::Fault,
            _ => ErrorKind::Refused,
        };
        ApiError(ErrorBody { kind, rule: Some(error.code().to_owned()), message: error.to_string() })
    }
}
