//! A client of the daemon's local API.

use std::path::{Path, PathBuf};

use daemon::api::types::{ErrorBody, ErrorKind};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Speaks to the daemon of one data directory.
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

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, Failure> {
        let (status, answer) = self.exchange(method, path, body).await?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|e| {
                Failure::fault(format!("the daemon's answer is not understood: {e}; is it of this version?"))
            });
        }
        let error: ErrorBody = serde_json::from_slice(&answer).unwrap_or_else(|_| ErrorBody {
            kind: ErrorKind::Fault,
            rule: None,
            message: format!("the daemon answered {status}"),
        });
        Err(Failure::from(error))
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        let broken = |e: hyper::Error| Failure::unreachable(format!("the daemon hung up: {e}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "souk")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| Failure::fault(e.to_string()))?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|e| Failure::unreachable(format!("the daemon's answer broke off: {e}")))?;
            Ok((status, answer.to_bytes()))
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
}
