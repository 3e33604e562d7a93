//! A client of the daemon's local API.

use std::path::{Path, PathBuf};

use daemon::api::types::{ErrorBody, ErrorKind};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::Events;
use crate::failure::Failure;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const JSON: &str = "application/json";

/// Speaks to the daemon of one data directory.
#[derive(Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(data_dir: &Path) -> Client {
        Client { socket: daemon::api::socket(data_dir) }
    }

    /// `GET path`
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, Vec::new()).await
    }

    /// `POST path` with `body` in JSON.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::fault(format!("encoding the request: {e}")))?;
        self.ask(Method::POST, path, body).await
    }

    /// `POST path` with `body` as it is.
    pub(crate) async fn send<T: DeserializeOwned>(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<T, Failure> {
        let mut answer = Vec::new();
        let status = self.exchange(Method::POST, path, kind, body, &mut bounded(&mut answer)).await?;
        understood(status, &answer)
    }

    /// `POST path` with `body` in JSON, its answer given to `take` piece by piece as it comes.
    pub(crate) async fn stream(
        &self,
        path: &str,
        body: &impl Serialize,
        take: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<(), Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::fault(format!("encoding the request: {e}")))?;
        let mut error = Vec::new();
        let mut sort = |status: StatusCode, piece: &[u8]| {
            if status.is_success() { take(piece) } else { bounded(&mut error)(status, piece) }
        };
        let status = self.exchange(Method::POST, path, JSON, body, &mut sort).await?;
        if status.is_success() { Ok(()) } else { understood(status, &error) }
    }

    /// `GET path`, a stream of events, each given to `take` by its name and data until that says no or the daemon ends.
    pub(crate) async fn follow(
        &self,
        path: &str,
        take: &mut (dyn FnMut(&str, &str) -> Result<bool, Failure> + Send),
    ) -> Result<(), Failure> {
        let (mut events, mut error, mut came_to) = (Events::default(), Vec::new(), None);
        let mut sort = |status: StatusCode, piece: &[u8]| {
            if !status.is_success() {
                return bounded(&mut error)(status, piece);
            }
            match events.read(piece, take) {
                Ok(true) => Ok(()),
                other => {
                    came_to = Some(other.map(drop));
                    Err(std::io::ErrorKind::Interrupted.into())
                }
            }
        };
        let ended = self.exchange(Method::GET, path, JSON, Vec::new(), &mut sort).await;
        if let Some(result) = came_to {
            return result;
        }
        let status = ended?;
        if status.is_success() { Err(Failure::unreachable("the daemon stopped")) } else { understood(status, &error) }
    }

    /// Somebody listens.
    pub(crate) async fn is_there(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, Failure> {
        let mut answer = Vec::new();
        let status = self.exchange(method, path, JSON, body, &mut bounded(&mut answer)).await?;
        understood(status, &answer)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
        take: &mut (dyn FnMut(StatusCode, &[u8]) -> std::io::Result<()> + Send),
    ) -> Result<StatusCode, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        let broken = |e: hyper::Error| Failure::unreachable(format!("the daemon hung up: {e}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "souk")
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| Failure::fault(e.to_string()))?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| Failure::unreachable(format!("the daemon's answer broke off: {e}")))?;
                if let Ok(piece) = frame.into_data() {
                    take(status, &piece)?;
                }
            }
            Ok(status)
        };
        // The connection has to be driven for the exchange to move; it ends with it.
        tokio::select! {
            answer = exchange => answer,
            Err(e) = connection => Err(broken(e)),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let socket = self.socket.display();
        Failure::unreachable(format!("no daemon answers at {socket} ({error}); start it with `souk run`"))
    }

    /// Nobody listens, and that is needed.
    pub(crate) fn nobody(&self) -> Failure {
        self.unreachable(&std::io::ErrorKind::NotFound.into())
    }
}

/// Collects an answer that is read as a whole.
fn bounded(answer: &mut Vec<u8>) -> impl FnMut(StatusCode, &[u8]) -> std::io::Result<()> {
    |_, piece| {
        if answer.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(std::io::Error::other("the daemon's answer is too long"));
        }
        answer.extend_from_slice(piece);
        Ok(())
    }
}

fn understood<T: DeserializeOwned>(status: StatusCode, answer: &[u8]) -> Result<T, Failure> {
    if status.is_success() {
        return serde_json::from_slice(answer).map_err(|e| {
            Failure::fault(format!("the daemon's answer is not understood: {e}; is it of this version?"))
        });
    }
    let error: ErrorBody = serde_json::from_slice(answer).unwrap_or_else(|_| ErrorBody {
        kind: ErrorKind::Fault,
        rule: None,
        message: format!("the daemon answered {status}"),
    });
    Err(Failure::from(error))
}
