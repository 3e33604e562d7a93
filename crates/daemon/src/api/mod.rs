//! The local API: HTTP with JSON on a Unix socket. The program `souk` uses nothing else.

pub(crate) mod board;
mod market;
mod node;
pub mod reputation;
pub mod types;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::node::NodeError;
use axum::Router;
use axum::extract::{FromRequest, Json};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::board_link::BoardError;
use crate::desk::DeskError;
use crate::running::Running;
use types::{ErrorBody, ErrorKind};

/// Name of the socket in the data directory.
pub const SOCKET: &str = "souk.sock";
/// Largest request body, in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Every route, served by `daemon`.
pub(crate) fn router(daemon: Arc<Running>, data_dir: &Path) -> Router {
    let operator = daemon.operator.clone();
    Router::new()
        .route("/v1/status", get(market::status))
        .route("/v1/node", get(node::info))
        .route("/v1/node/channels", get(node::channels))
        .route("/v1/node/balances", get(node::balances))
        .route("/v1/node/payments", get(node::payments))
        .route("/v1/node/connect", post(node::connect))
        .route("/v1/node/open", post(node::open))
        .route("/v1/node/close", post(node::close))
        .route("/v1/node/address", post(node::address))
        .route("/v1/node/send", post(node::send))
        .route("/v1/node/invoice", post(node::invoice))
        .route("/v1/node/offer", post(node::offer))
        .route("/v1/node/pay", post(node::pay))
        .route("/v1/listings", get(market::listings).post(market::sell))
        .route("/v1/listings/mine", get(market::stalls))
        .route("/v1/listings/{listing}", post(market::listing))
        .route("/v1/adverts", get(market::adverts))
        .route("/v1/orders", get(market::orders).post(market::publish_order))
        .route("/v1/bids", post(market::bid))
        .route("/v1/trades", get(market::trades))
        .route("/v1/trades/{trade}", get(market::trade))
        .route("/v1/trades/{trade}/step", post(market::step))
        .route("/v1/trades/{trade}/chat", get(market::chat).post(market::say))
        .merge(reputation::router())
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(daemon)
        .merge(board::router(operator, data_dir))
}

/// Serves the API on `souk.sock` in `data_dir` until `shutdown`.
pub(crate) async fn serve(data_dir: &Path, router: Router, shutdown: CancellationToken) -> std::io::Result<()> {
    let listener = bind(data_dir)?;
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

/// The data directory is locked by now, so a socket that is there was left by a process that is gone.
fn bind(data_dir: &Path) -> std::io::Result<UnixListener> {
    let path = socket(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Where the socket of a data directory is.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// What goes wrong in a request, as the caller sees it.
#[derive(Debug)]
pub(crate) struct ApiError(ErrorBody);

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> ApiError {
        ApiError(ErrorBody { kind, rule: None, message: message.into() })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self.0.kind {
            ErrorKind::Usage => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Refused => StatusCode::CONFLICT,
            ErrorKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, axum::Json(self.0)).into_response()
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> ApiError {
        let kind = match error {
            NodeError::Unreachable(_) | NodeError::Unknown(_) => ErrorKind::Unreachable,
            NodeError::Rejected(_) | NodeError::Unsupported(_) => ErrorKind::Refused,
            NodeError::NotFound(_) => ErrorKind::NotFound,
            NodeError::Fault(_) => ErrorKind::Fault,
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> ApiError {
        let message = error.to_string();
        match error {
            DeskError::Refused(refusal) => {
                ApiError(ErrorBody { kind: ErrorKind::Refused, rule: Some(refusal.rule.code().to_owned()), message })
            }
            DeskError::RefusedNow { refusal, .. } => {
                ApiError(ErrorBody { kind: ErrorKind::Refused, rule: Some(refusal.rule.code().to_owned()), message })
            }
            DeskError::Board(BoardError::Refused { .. }) | DeskError::NotOut(BoardError::Refused { .. }) => {
                ApiError::new(ErrorKind::Refused, message)
            }
            DeskError::Board(_) | DeskError::NotOut(_) => ApiError::new(ErrorKind::Unreachable, message),
            DeskError::Node(error) => error.into(),
            DeskError::NotFound(_) => ApiError::new(ErrorKind::NotFound, message),
            DeskError::Order(why) => {
                ApiError(ErrorBody { kind: ErrorKind::Refused, rule: Some(why.code().to_owned()), message })
            }
            DeskError::Usage(_) => ApiError::new(ErrorKind::Usage, message),
            DeskError::Store(_)
            | DeskError::Entry(_)
            | DeskError::Post(_)
            | DeskError::Keys(_)
            | DeskError::Stopped => ApiError::new(ErrorKind::Fault, message),
        }
    }
}

/// A JSON body whose rejection is worded like every other error.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T> FromRequest<S> for Body<T>
where
    Json<T>: FromRequest<S, Rejection = axum::extract::rejection::JsonRejection>,
{
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Body<T>, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => Err(ApiError::new(ErrorKind::Usage, rejection.body_text())),
        }
    }
}
