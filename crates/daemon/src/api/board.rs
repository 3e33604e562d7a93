//! Routes of the board's operator, and its metrics. A bare board has these and nothing else.

use std::io;
use std::net::SocketAddr;
use std::path::Path as FilePath;

use ::board::decisions::{Decision, Decisions};
use ::board::metrics::MEDIA_TYPE;
use ::board::operator::{ClientView, Operator, OperatorError, Whom};
use ::board::sync::SyncReport;
use ::board::transfer::Imported;
use ::board::{BoardStats, SubscriptionView};
use aide::axum::ApiRouter;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::{Filter, FilterLimits};

use super::access::{Scope, get, post};
use super::types::{
    ErrorKind, ExportRequest, NoticeRequest, PolicyReply, PolicyRequest, Reached, Status, SyncNews, SyncRequest,
    WhomRequest,
};
use super::{ApiError, Body};
use crate::config::{self, FILE as CONFIG_FILE};

/// Largest piece of an import, in bytes. `souk board import` cuts what it reads into smaller ones.
const IMPORT_BYTES_MAX: usize = 8 << 20;
/// Pieces of an export, of about 1 MiB each, that wait for whoever reads it.
const EXPORT_PIECES: usize = 4;

type Reply<T> = Result<Json<T>, ApiError>;

/// The routes for `operator`'s board, or the same routes saying that there is none.
pub(super) fn routes(operator: Option<Operator>, data_dir: &FilePath) -> ApiRouter {
    use Scope::{Admin, Read};
    let Some(operator) = operator else { return ApiRouter::new().route("/v1/board/{*rest}", any(no_board)) };
    let config = data_dir.join(CONFIG_FILE);
    let reload = async move |State(operator): State<Operator>| reload(&operator, &config);
    ApiRouter::new()
        .api_route("/v1/board/policy", get(Admin, "The board's policy", policy))
        .api_route("/v1/board/policy", post(Admin, "Set the board's policy", set_policy))
        .api_route("/v1/board/policy/reload", post(Admin, "Read the policy again", reload))
        .api_route("/v1/board/stats", get(Read, "Numbers about the board", stats))
        .api_route("/v1/board/clients", get(Admin, "Who is connected to the board", clients))
        .api_route(
            "/v1/board/subscriptions/{of}",
            get(Admin, "What clients of the board are subscribed to", subscriptions),
        )
        .api_route("/v1/board/disconnect", post(Admin, "End connections to the board", disconnect))
        .api_route("/v1/board/notice", post(Admin, "Tell clients of the board something", notice))
        .api_route("/v1/board/decisions", get(Admin, "Bans and other decisions", decisions))
        .api_route("/v1/board/decisions", post(Admin, "Ban, or take a ban back", decide))
        .api_route("/v1/board/export", post(Admin, "Events as lines of JSON", export))
        .api_route("/v1/board/sync", post(Admin, "Come into agreement with another relay", sync))
        .api_route(
            "/v1/board/import",
            post(Admin, "Take events from lines of JSON", import).layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX)),
        )
        .api_route("/metrics", get(Read, "The same numbers for Prometheus", metrics))
        .with_state(operator)
}

/// What a bare board serves: the above, and `/v1/status`.
pub(crate) fn bare(operator: Operator, url: String, data_dir: &FilePath) -> Router {
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: vec!["board".to_owned()],
        node: None,
        identity: None,
        board: Some(url),
        boards: Vec::new(),
        open_trades: 0,
        backlog: Vec::new(),
        damaged: Vec::new(),
        restored: None,
        superseded: None,
    };
    let elsewhere =
        || async { ApiError::new(ErrorKind::Usage, "this is a bare board: it has a board and nothing else") };
    let status = get(Scope::Read, "How the daemon stands", move || async move { Json(status.clone()) });
    super::described(routes(Some(operator), data_dir).api_route("/v1/status", status)).fallback(elsewhere)
}

/// Serves `/metrics` and nothing else on `listen` until `shutdown`.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    operator: Operator,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new().route("/metrics", axum::routing::get(metrics)).with_state(operator);
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

/// Listens for readers of metrics.
pub(crate) async fn listen_metrics(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {listen}: {e}")))
}

async fn no_board() -> ApiError {
    ApiError::new(ErrorKind::Usage, "this daemon runs no board: set board.enabled = true and start it again")
}

async fn stats(State(operator): State<Operator>) -> Json<BoardStats> {
    Json(operator.stats())
}

async fn metrics(State(operator): State<Operator>) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], operator.metrics()).into_response()
}

async fn clients(State(operator): State<Operator>) -> Json<Vec<ClientView>> {
    Json(operator.clients().await)
}

/// Whose subscriptions.
#[derive(Deserialize, JsonSchema)]
struct OfWhom {
    /// The number of a client, an address, or `all`.
    of: String,
}

fn whom(text: &str) -> Result<Whom, ApiError> {
    text.parse().map_err(|why: String| ApiError::new(ErrorKind::Usage, why))
}

async fn subscriptions(State(operator): State<Operator>, Path(of): Path<OfWhom>) -> Reply<Vec<SubscriptionView>> {
    Ok(Json(operator.subscriptions(whom(&of.of)?).await))
}

/// Nobody was meant: that is an error for one who names a client, not for one who names all.
fn reached(clients: u64, to: Whom) -> Reply<Reached> {
    if clients == 0 && to != Whom::All {
        return Err(ApiError::new(ErrorKind::NotFound, format!("no client {to} is connected")));
    }
    Ok(Json(Reached { clients }))
}

async fn disconnect(State(operator): State<Operator>, Body(request): Body<WhomRequest>) -> Reply<Reached> {
    let whom = whom(&request.whom)?;
    reached(operator.disconnect(whom), whom)
}

async fn notice(State(operator): State<Operator>, Body(request): Body<NoticeRequest>) -> Reply<Reached> {
    let whom = whom(&request.whom)?;
    reached(operator.notice(whom, &request.text), whom)
}

async fn policy(State(operator): State<Operator>) -> Reply<PolicyReply> {
    let policy = operator.written_policy();
    let toml = toml::to_string(&policy).map_err(|why| ApiError::new(ErrorKind::Fault, why.to_string()))?;
    Ok(Json(PolicyReply { policy, toml }))
}

async fn set_policy(State(operator): State<Operator>, Body(request): Body<PolicyRequest>) -> Reply<()> {
    Ok(Json(operator.set_policy(request.toml, request.name.into()).await?))
}

fn reload(operator: &Operator, config: &FilePath) -> Reply<()> {
    reload_policy(operator, config).map(Json).map_err(|why| ApiError::new(ErrorKind::Usage, why))
}

/// Has the policy hold that was set, or else the one in the configuration, as both are on disk now.
pub(crate) fn reload_policy(operator: &Operator, config: &FilePath) -> Result<(), String> {
    let section = config::Board::load(config).map_err(|why| why.to_string())?;
    operator.reload_policy(section.policy).map_err(|why| why.to_string())
}

async fn decisions(State(operator): State<Operator>) -> Json<Decisions> {
    Json(operator.decisions())
}

async fn decide(State(operator): State<Operator>, Body(decision): Body<Decision>) -> Reply<Decisions> {
    operator.decide(decision).await?;
    Ok(Json(operator.decisions()))
}

/// Streams the events as lines. An export that cannot be finished ends without the end of an HTTP body, so that nobody takes a
/// part for the whole.
async fn export(State(operator): State<Operator>, Body(request): Body<ExportRequest>) -> Result<Response, ApiError> {
    let read = |filter: &serde_json::Value| Filter::parse(filter.to_string().as_bytes(), &FilterLimits::DEFAULT);
    let filters: Result<Vec<Filter>, _> = request.filters.iter().map(read).collect();
    let filters = filters.map_err(|why| ApiError::new(ErrorKind::Usage, format!("the filter: {why}")))?;
    let (pieces, waiting) = mpsc::channel::<io::Result<Bytes>>(EXPORT_PIECES);
    tokio::task::spawn_blocking(move || {
        let mut write = |piece: &[u8]| {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            pieces.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone)
        };
        if let Err(why) = operator.export(filters, &mut write) {
            tracing::warn!(%why, "an export was not finished");
            let why = io::Error::other(why);
            if pieces.blocking_send(Err(why)).is_err() {
                tracing::debug!("nobody reads the export any more");
            }
        }
    });
    let next = |mut waiting: mpsc::Receiver<_>| async move { waiting.recv().await.map(|piece| (piece, waiting)) };
    let body = HttpBody::from_stream(futures::stream::unfold(waiting, next));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Streams how a synchronisation goes. It goes on only as long as somebody reads that.
async fn sync(State(operator): State<Operator>, Body(request): Body<SyncRequest>) -> Result<Response, ApiError> {
    let filter = Filter::parse(request.filter.to_string().as_bytes(), &FilterLimits::DEFAULT);
    let filter = filter.map_err(|why| ApiError::new(ErrorKind::Usage, format!("the filter: {why}")))?;
    if !request.url.starts_with("ws://") && !request.url.starts_with("wss://") {
        let message = format!("{:?} does not begin with ws:// or wss://", request.url);
        return Err(ApiError::new(ErrorKind::Usage, message));
    }
    let (told, reports) = mpsc::channel(1);
    let work = async move {
        // A report that nobody has read yet is good enough.
        let mut progress = |report: &SyncReport| told.try_send(*report).unwrap_or_default();
        match operator.sync_with(&request.url, filter, request.direction, &mut progress).await {
            Ok(report) => SyncNews::Done(report),
            Err(why) => SyncNews::Failed(why.to_string()),
        }
    };
    let next = |mut reports: mpsc::Receiver<_>| async move { reports.recv().await.map(|report| (report, reports)) };
    let reports = futures::stream::unfold(reports, next).map(SyncNews::Progress);
    let line = |news| serde_json::to_string(&news).map(|line| line + "\n");
    let news = futures::stream::select(reports, futures::stream::once(work)).map(line);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], HttpBody::from_stream(news)).into_response())
}

async fn import(State(operator): State<Operator>, lines: Result<Bytes, BytesRejection>) -> Reply<Imported> {
    let lines = lines.map_err(|rejection| ApiError::new(ErrorKind::Usage, rejection.body_text()))?;
    let work = tokio::task::spawn_blocking(move || operator.import(&lines));
    work.await.map(Json).map_err(|_| ApiError::new(ErrorKind::Fault, "the import ended too early"))
}

impl From<OperatorError> for ApiError {
    fn from(error: OperatorError) -> ApiError {
        use ::board::decisions::DecisionsError::{Full, InPolicy, Io, NotBanned, Parse, TooLong};
        let kind = match &error {
            OperatorError::Decisions(NotBanned(_)) => ErrorKind::NotFound,
            OperatorError::Decisions(InPolicy(_) | Full) => ErrorKind::Refused,
            OperatorError::Decisions(TooLong) => ErrorKind::Usage,
            OperatorError::Decisions(Parse { .. }) => ErrorKind::Usage,
            OperatorError::Decisions(Io { .. }) => ErrorKind::Fault,
            OperatorError::Store(_) | OperatorError::Failed(_) | OperatorError::Closing => ErrorKind::Fault,
        };
        ApiError::new(kind, error.to_string())
    }
}
