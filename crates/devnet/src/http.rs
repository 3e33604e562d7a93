//! A small bounded HTTP/1.1 server: keep-alive, a limit on connections and on bodies, a graceful end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::render;

/// Connections of one server at a time; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may be idle or take to send a request's head.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed accept, such as when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A request whose body has arrived.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Bytes,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
        Answer { status, content_type: "text/plain", body: text.into().into_bytes() }
    }

    pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
        Answer { status, content_type: "application/json", body: render::to_json(value) }
    }

    pub(crate) fn bytes(body: Vec<u8>) -> Answer {
        Answer { status: StatusCode::OK, content_type: "application/octet-stream", body }
    }
}

/// Answers requests; runs on a blocking thread because it may wait for the chain's lock or the disk.
pub(crate) trait Site: Send + Sync + 'static {
    /// Longest request body in bytes.
    const MAX_BODY: usize;

    /// The answer to one request.
    fn answer(&self, call: Call) -> Answer;
}

/// Binds `addr` and serves `site` until `stop`. Returns the bound address.
pub(crate) async fn serve<S: Site>(
    addr: SocketAddr,
    site: Arc<S>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    let (inner, connections) = (tasks.clone(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    tasks.spawn(async move {
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            let stream = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            let (site, stop) = (Arc::clone(&site), stop.clone());
            inner.spawn(async move {
                let service = service_fn(|request| respond(Arc::clone(&site), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(IDLE_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::pin!(connection);
                let outcome = tokio::select! {
                    outcome = connection.as_mut() => outcome,
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection ended");
                }
                drop(permit);
            });
        }
    });
    Ok(bound)
}

async fn respond<S: Site>(site: Arc<S>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, S::MAX_BODY).collect()).await;
    let answer = match collected {
        Ok(Ok(body)) => {
            let authorization = parts.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let path = parts.uri.path().to_owned();
            let call = Call { method: parts.method, path, authorization, body: body.to_bytes() };
            tokio::task::spawn_blocking(move || site.answer(call)).await.unwrap_or_else(|error| {
                tracing::error!(%error, "request failed");
                Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            })
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "request body is too large")
        }
        Ok(Err(_)) => Answer::text(StatusCode::BAD_REQUEST, "request body could not be read"),
        Err(_) => Answer::text(StatusCode::REQUEST_TIMEOUT, "request body did not arrive in time"),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if answer.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"jsonrpc\""));
    }
    Ok(response)
}
