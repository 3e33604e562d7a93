//! The local API: HTTP with JSON, on a Unix socket and, where the user wants that, on a loopback port for those who show a token. The
//! program `souk` uses nothing else.

pub mod access;
pub mod arbiter;
mod backup;
pub(crate) mod board;
pub mod credentials;
mod document;
pub mod events;
pub mod fiat;
mod market;
mod node;
pub mod reputation;
pub mod tokens;
pub mod types;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::node::NodeError;
use aide::OperationOutput;
use aide::axum::ApiRouter;
use aide::generate::GenContext;
use aide::openapi::{OpenApi, Operation};
use aide::operation::OperationInput;
use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Json, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::board_link::BoardError;
use crate::desk::DeskError;
use crate::fiat::BadRate;
use crate::running::Running;
use crate::store::{Store, StoreError};
use access::{Granted, Scope, get, post};
use types::{ErrorBody, ErrorKind};

/// Name of the socket in the data directory.
pub const SOCKET: &str = "souk.sock";
/// Largest request body, in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Every route but those of the board's operator. Each names the scope that it needs.
fn routes() -> ApiRouter<Arc<Running>> {
    use Scope::{Funds, Read, Trade};
    ApiRouter::new()
        .api_route("/v1/status", get(Read, "How the daemon stands", market::status))
        .api_route("/v1/events", get(Read, "What happens, as server-sent events", events::events))
        .api_route("/v1/node", get(Read, "The Lightning node", node::info))
        .api_route("/v1/node/channels", get(Read, "Its channels", node::channels))
        .api_route("/v1/node/balances", get(Read, "What it owns", node::balances))
        .api_route("/v1/node/payments", get(Read, "Its payments, newest first", node::payments))
        .api_route("/v1/node/connect", post(Funds, "Connect to a peer", node::connect))
        .api_route("/v1/node/open", post(Funds, "Open a channel", node::open))
        .api_route("/v1/node/close", post(Funds, "Close a channel", node::close))
        .api_route("/v1/node/address", post(Trade, "A fresh on-chain address", node::address))
        .api_route("/v1/node/send", post(Funds, "Send on chain", node::send))
        .api_route("/v1/node/invoice", post(Trade, "Make a BOLT11 invoice", node::invoice))
        .api_route("/v1/node/offer", post(Trade, "Make a BOLT12 offer", node::offer))
        .api_route("/v1/node/pay", post(Funds, "Pay an invoice or an offer", node::pay))
        .api_route("/v1/listings", get(Read, "What is for sale on the boards", market::listings))
        .api_route("/v1/listings", post(Trade, "List something for sale", market::sell))
        .api_route("/v1/listings/mine", get(Read, "Our listings", market::stalls))
        .api_route(
            "/v1/listings/{listing}",
            post(Trade, "Edit, restock or withdraw a listing of ours", market::listing),
        )
        .api_route("/v1/adverts", get(Read, "What other markets have", market::adverts))
        .api_route("/v1/orders", get(Read, "Market orders on the boards", market::orders))
        .api_route("/v1/orders", post(Trade, "Publish a market order", market::publish_order))
        .api_route("/v1/bids", post(Trade, "Bid on a listing", market::bid))
        .api_route("/v1/trades", get(Read, "Our trades", market::trades))
        .api_route("/v1/trades/{trade}", get(Read, "One trade", market::trade))
        .api_route("/v1/trades/{trade}/step", post(Trade, "Take the next step of a trade", market::step))
        .api_route("/v1/trades/{trade}/chat", get(Read, "What was said in a trade, oldest first", market::chat))
        .api_route("/v1/trades/{trade}/chat", post(Trade, "Say something, sealed", market::say))
        .merge(reputation::routes())
        .merge(arbiter::routes())
        .merge(fiat::routes())
        .merge(credentials::routes())
        .merge(tokens::routes())
        .merge(backup::routes())
}

/// The API of a daemon. Requests have to be given a scope by whatever serves it: see [`local`] and [`remote`].
pub(crate) fn router(daemon: Arc<Running>, data_dir: &Path) -> Router {
    let operator = daemon.operator.clone();
    let routes = routes()
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(daemon)
        .merge(board::routes(operator, data_dir));
    let nothing =
        async || ApiError::new(ErrorKind::NotFound, "there is no such route: GET /v1/openapi.json has those that are");
    described(routes).fallback(nothing)
}

/// Adds the document about `routes` to them.
fn described(routes: ApiRouter) -> Router {
    let mut document = document::begin();
    let router = routes.finish_api_with(&mut document, document::end);
    let document: Arc<OpenApi> = Arc::new(document);
    router.route("/v1/openapi.json", axum::routing::get(async move || axum::Json(document.clone())))
}

/// For whoever may open the Unix socket: everything is allowed.
pub(crate) fn local(router: Router) -> Router {
    router.layer(axum::Extension(Granted(Scope::Admin)))
}

/// For whoever comes over TCP: what the token allows that is shown.
fn remote(router: Router, store: Arc<Store>) -> Router {
    router.layer(axum::middleware::from_fn_with_state(store, tokens::authenticate))
}

/// Serves the API on `souk.sock` in `data_dir` until `shutdown`.
pub(crate) async fn serve(data_dir: &Path, router: Router, shutdown: CancellationToken) -> std::io::Result<()> {
    let listener = bind(data_dir)?;
    let served = axum::serve(listener, local(router));
    served.with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

/// Listens for callers over TCP.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"));
    TcpListener::bind(address).await.map_err(named)
}

/// Serves the API to callers that show tokens until `shutdown`.
pub(crate) async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    store: Arc<Store>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let served = axum::serve(listener, remote(router, store));
    served.with_graceful_shutdown(async move { shutdown.cancelled().await }).await
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
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Refused => StatusCode::CONFLICT,
            ErrorKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, axum::Json(self.0)).into_response()
    }
}

/// Described once for all routes: see `document`.
impl OperationOutput for ApiError {
    type Inner = ErrorBody;
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        ApiError::new(ErrorKind::Fault, error.to_string())
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
            DeskError::Board(BoardError::NoCredential(_)) | DeskError::NotOut(BoardError::NoCredential(_)) => {
                ApiError(ErrorBody { kind: ErrorKind::Refused, rule: Some("no-credential".to_owned()), message })
            }
            DeskError::Board(_) | DeskError::NotOut(_) => ApiError::new(ErrorKind::Unreachable, message),
            DeskError::Node(error) => error.into(),
            DeskError::NotFound(_) => ApiError::new(ErrorKind::NotFound, message),
            DeskError::Order(why) => {
                ApiError(ErrorBody { kind: ErrorKind::Refused, rule: Some(why.code().to_owned()), message })
            }
            DeskError::Rate(BadRate::Apart(_)) => ApiError::new(ErrorKind::Refused, message),
            DeskError::Rate(BadRate::None(_)) => ApiError::new(ErrorKind::Unreachable, message),
            DeskError::Usage(_) => ApiError::new(ErrorKind::Usage, message),
            DeskError::Superseded { .. } => {
                ApiError(ErrorBody { kind: ErrorKind::Refused, rule: Some("superseded".to_owned()), message })
            }
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

/// What stands behind the question mark, its rejection worded like every other error.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Params(params)),
            Err(rejection) => Err(ApiError::new(ErrorKind::Usage, rejection.body_text())),
        }
    }
}

impl<T: JsonSchema> OperationInput for Params<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Query::<T>::operation_input(context, operation);
    }
}

impl<T: JsonSchema> OperationInput for Body<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<T>::operation_input(context, operation);
    }
}
