//! The route that makes a backup.

use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::body::Bytes;
use axum::extract::State;

use super::ApiError;
use super::access::{Scope, post};
use super::types::ErrorKind;
use crate::running::Running;

pub(super) fn routes() -> ApiRouter<Arc<Running>> {
    ApiRouter::new()
        .api_route("/v1/backup", post(Scope::Admin, "An encrypted file that brings this machine back", make))
}

/// The encrypted file, as [`crate::backup`] describes it.
async fn make(State(daemon): State<Arc<Running>>) -> Result<Bytes, ApiError> {
    let made = tokio::task::spawn_blocking(move || daemon.backup.make()).await;
    let fault = |why: String| ApiError::new(ErrorKind::Fault, why);
    let made = made.map_err(|error| fault(error.to_string()))?;
    made.map(Bytes::from).map_err(|error| fault(error.to_string()))
}
