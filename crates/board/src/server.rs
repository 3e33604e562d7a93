//! The shell around everything: listens, answers HTTP, upgrades to WebSocket, and ends in order.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::Unix;

use crate::admission::{CurrentPolicy, Rates};
use crate::clients::Clients;
use crate::compression::{Agreement, agree};
use crate::connection::{Connection, Opened};
use crate::intake::{Counts, Judge};
use crate::live::Live;
use crate::operator::Operator;
use crate::origin::{self, Unclear, counted};
use crate::standing::Standing;
use crate::store::Store;
use crate::{BoardConfig, BoardLimits, management, nip11};

/// How long the listener waits when the system has no file left for another connection.
const NO_FILES_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that an HTTP request may have before its body.
const HTTP_HEAD_MAX: usize = 16 * 1024;
/// How long the rest of a head is waited for at first; doubled each time.
const CRUMB_WAIT: Duration = Duration::from_millis(5);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) live: Arc<Live>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) standing: Standing,
    pub(crate) policy: Arc<CurrentPolicy>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) judge: Judge,
    pub(crate) counts: Arc<Counts>,
    pub(crate) counters: Counters,
    pub(crate) limits: BoardLimits,
    pub(crate) urls: Arc<[String]>,
    pub(crate) config: BoardConfig,
    pub(crate) clock: fn() -> Unix,
    /// When the board began, for what is counted in parts of a second.
    pub(crate) since: Instant,
    /// Turns of answers that are under way at the same time.
    pub(crate) turns: Arc<Semaphore>,
    /// Those of them that are of addresses which have asked much: some are left for the others.
    pub(crate) line: Arc<Semaphore>,
    /// One step of a reconciliation at a time, so that others get their turns.
    pub(crate) reconciling: Arc<Semaphore>,
    /// Events that the sets of all reconciliations may still hold.
    pub(crate) set_room: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) addresses: Addresses,
}

impl Shared {
    /// The configuration with the names that the operator has given since.
    fn called(&self) -> BoardConfig {
        let (mut config, decisions) = (self.config.clone(), self.standing.decisions());
        config.name = decisions.name.unwrap_or(config.name);
        config.description = decisions.description.unwrap_or(config.description);
        config.icon = decisions.icon.or(config.icon);
        config
    }
}

/// Numbers about connections.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    slow: AtomicU64,
    waited: AtomicU64,
}

impl Counters {
    /// A reader was dropped because it was too slow.
    pub(crate) fn slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    /// A question waited because its address had used up its share.
    pub(crate) fn waited(&self) {
        self.waited.fetch_add(1, Ordering::Relaxed);
    }

    /// Times that a question waited for that.
    pub(crate) fn waits(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }

    /// Readers that were dropped because they were too slow.
    pub(crate) fn slow_readers(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }
}

/// Connections by address.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    each: Mutex<HashMap<IpAddr, Here>>,
    all: AtomicUsize,
}

/// What those who come from one address share.
#[derive(Debug)]
struct Here {
    connections: usize,
    /// Which of them stands in line, once the address has asked much.
    line: Arc<Semaphore>,
}

/// One connection's seat; given back when it is dropped.
struct Seat {
    shared: Arc<Shared>,
    address: IpAddr,
    /// Under what it counts, if it does.
    counted: Option<IpAddr>,
}

impl Addresses {
    /// Connections now.
    pub(crate) fn len(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// One at a time of those who come from this address, as they are counted; `None` if they are not.
    pub(crate) fn line(&self, counted: IpAddr) -> Option<Arc<Semaphore>> {
        let each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        each.get(&counted).map(|here| here.line.clone())
    }

    fn enter(shared: &Arc<Shared>, address: IpAddr) -> Option<Seat> {
        let limits = &shared.limits;
        let mut each = shared.addresses.each.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.addresses.len() >= limits.connections {
            return None;
        }
        let counted = counted(address).filter(|_| !shared.config.proxies.include(address));
        if let Some(counted) = counted {
            let none = || Here { connections: 0, line: Arc::new(Semaphore::new(1)) };
            let here = each.entry(counted).or_insert_with(none);
            if here.connections >= limits.connections_per_address {
                return None;
            }
            here.connections += 1;
        }
        shared.addresses.all.fetch_add(1, Ordering::Relaxed);
        Some(Seat { shared: shared.clone(), address, counted })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let addresses = &self.shared.addresses;
        let mut each = addresses.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = self.counted
            && let Some(here) = each.get_mut(&counted)
        {
            here.connections -= 1;
            if here.connections == 0 {
                each.remove(&counted);
            }
        }
        addresses.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes connections until the board stops.
pub(crate) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => admit(&shared, socket, peer),
            Err(why) => {
                tracing::warn!(%why, "a connection could not be taken");
                tokio::time::sleep(NO_FILES_PAUSE).await;
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, socket: TcpStream, peer: SocketAddr) {
    let address = peer.ip().to_canonical();
    if shared.policy.get().shuts_out(address) {
        return;
    }
    let Some(seat) = Addresses::enter(shared, address) else { return };
    // Without it the kernel holds small frames back until the last one was acknowledged.
    if let Err(why) = socket.set_nodelay(true) {
        tracing::debug!(%why, "TCP_NODELAY");
    }
    let seat = Arc::new(seat);
    shared.tasks.spawn(serve(seat, socket));
}

async fn serve(seat: Arc<Seat>, socket: TcpStream) {
    let shared = seat.shared.clone();
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = converse(seat, socket) => {}
    }
}

/// Waits for the head of a request. Who sends it in crumbs is looked at less and less often, so that many of them cost little.
async fn greeted(socket: &TcpStream) -> io::Result<()> {
    let mut pause = CRUMB_WAIT;
    while !socket.ready(Interest::READABLE).await?.is_read_closed() {
        let mut head = vec![0; HTTP_HEAD_MAX];
        let len = socket.peek(&mut head).await?;
        if len == head.len() || memchr::memmem::find(&head[..len], b"\r\n\r\n").is_some() {
            break;
        }
        drop(head);
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// Answers the one request of an HTTP connection.
async fn converse(seat: Arc<Seat>, socket: TcpStream) {
    let handshake = seat.shared.limits.handshake;
    if !matches!(tokio::time::timeout(handshake, greeted(&socket)).await, Ok(Ok(()))) {
        return;
    }
    let service = service_fn(move |request| {
        let seat = seat.clone();
        async move { Ok::<_, Infallible>(respond(&seat, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(handshake)
        .max_buf_size(HTTP_HEAD_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    if let Ok(Err(why)) = tokio::time::timeout(handshake * 2, connection).await {
        tracing::debug!(%why, "an HTTP connection ended");
    }
}

async fn respond(seat: &Arc<Seat>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let shared = &seat.shared;
    if let Some(key) = websocket_key(&request) {
        let seat = match seat_of_client(seat, request.headers()) {
            Ok(seat) => seat,
            Err((status, why)) => return answer(status, Some("text/plain"), format!("{why}\n")),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let agreed = if shared.config.compression { agree(request.headers()) } else { None };
        shared.tasks.spawn(upgraded(seat, upgrade, agreed));
        let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, None, String::new());
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
        if let Some(value) = agreed.and_then(|agreed| HeaderValue::from_str(&agreed.to_string()).ok()) {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        return response;
    }
    if request.method() == Method::POST && says(request.headers(), header::CONTENT_TYPE, management::MEDIA_TYPE) {
        return manage(shared, request).await;
    }
    let policy = shared.policy.get();
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match (request.method(), request.uri().path()) {
        (&Method::OPTIONS, _) => answer(StatusCode::NO_CONTENT, None, String::new()),
        (&Method::GET | &Method::HEAD, "/health") => match shared.store.fault() {
            None => answer(StatusCode::OK, Some("text/plain"), "ok\n".into()),
            Some(why) => answer(StatusCode::SERVICE_UNAVAILABLE, Some("text/plain"), format!("{why}\n")),
        },
        // Of the same address as the WebSocket (NIP-11), which is answered on any path.
        (&Method::GET | &Method::HEAD, _) if accepts.contains("application/nostr+json") => {
            let document = nip11::document(&shared.called(), &policy).to_string();
            answer(StatusCode::OK, Some("application/nostr+json"), document)
        }
        (&Method::GET | &Method::HEAD, "/") => {
            answer(StatusCode::OK, Some("text/html; charset=utf-8"), nip11::page(&shared.called(), &policy))
        }
        _ => answer(StatusCode::NOT_FOUND, Some("text/plain"), "there is nothing here\n".into()),
    }
}

/// The seat of who opens a WebSocket: of whom a proxy speaks for, if one does.
fn seat_of_client(seat: &Arc<Seat>, headers: &HeaderMap) -> Result<Arc<Seat>, (StatusCode, &'static str)> {
    let (shared, proxies) = (&seat.shared, &seat.shared.config.proxies);
    if !proxies.include(seat.address) {
        if proxies.is_empty() && seat.address.is_loopback() && origin::speaks_for_another(headers) {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                tracing::warn!(proxy = %seat.address, "a proxy names its clients, but is not among board.proxies: \
                    limits by address do not hold for them");
            });
        }
        return Ok(seat.clone());
    }
    match proxies.client(headers) {
        Ok(None) => Ok(seat.clone()),
        Ok(Some(client)) if shared.policy.get().shuts_out(client) => {
            Err((StatusCode::FORBIDDEN, "blocked: this address is shut out by the operator"))
        }
        Ok(Some(client)) => match Addresses::enter(shared, client) {
            Some(seat) => Ok(Arc::new(seat)),
            None => Err((
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited: too many connections, or too many from this address",
            )),
        },
        Err(Unclear) => Err((StatusCode::BAD_REQUEST, "the proxy's X-Forwarded-For cannot be read")),
    }
}

/// A request of NIP-86.
async fn manage(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, management::BODY_MAX).collect().await else {
        let error = format!("{{\"error\":\"a request has at most {} bytes\"}}", management::BODY_MAX);
        return answer(StatusCode::PAYLOAD_TOO_LARGE, Some("application/json"), error);
    };
    let authorization = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let operator = Operator::new(shared.clone());
    let (status, result) = management::answer(&operator, authorization, &body.to_bytes()).await;
    answer(status, Some("application/json"), result.to_string())
}

fn answer(status: StatusCode, kind: Option<&'static str>, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    // One request each: an idle HTTP connection would keep a seat. Not by hyper's own switch, which closes upgraded ones too.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // NIP-11: any page may read the document.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    // The star does not stand for Authorization, which NIP-86 needs.
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Content-Type, Accept, *"),
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    response
}

/// One of the words of a header is this one. What follows a semicolon is a parameter.
fn says(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(',').any(|part| part.split(';').next().is_some_and(|part| part.trim().eq_ignore_ascii_case(word)))
}

/// The answer to the key of a WebSocket handshake (RFC 6455); `None` when the request is none.
fn websocket_key(request: &Request<Incoming>) -> Option<HeaderValue> {
    let headers = request.headers();
    let asks = request.method() == Method::GET
        && says(headers, header::CONNECTION, "upgrade")
        && says(headers, header::UPGRADE, "websocket")
        && says(headers, header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asks)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

async fn upgraded(seat: Arc<Seat>, upgrade: OnUpgrade, agreed: Option<Agreement>) {
    let shared = seat.shared.clone();
    let Ok(Ok(upgraded)) = tokio::time::timeout(shared.limits.handshake, upgrade).await else { return };
    // From here on nothing stands between the board and the socket.
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return tracing::error!("a socket came back as something else");
    };
    let mut challenge = [0; 16];
    if let Err(why) = getrandom::fill(&mut challenge) {
        tracing::error!(%why, "the system gives no randomness");
        return;
    }
    let challenge = challenge.iter().map(|byte| format!("{byte:02x}")).collect();
    let socket = parts.io.into_inner();
    let opened = Opened { socket, read: &parts.read_buf, address: seat.address, agreed };
    let connection = Connection::new(shared.clone(), opened, challenge);
    tokio::select! {
        () = connection.run() => {}
        () = drained(&shared) => tracing::warn!("a connection did not end in time and was cut"),
    }
}

/// The board has been closing for as long as connections may take to end in order.
async fn drained(shared: &Shared) {
    shared.stop.cancelled().await;
    tokio::time::sleep(shared.limits.drain).await;
}
