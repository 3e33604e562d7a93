//! Tokens for callers that come over TCP.
//!
//! A token is `souk_ID_SECRET`: four bytes that name it and 32 that prove it, in hex. It is shown once; what is kept is the hash of the
//! secret, its scope and when it ends.

use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bitcoin::hashes::{Hash, sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::{Unix, hex32, parse_hex32};

use super::access::{Granted, Scope, get, post};
use super::types::ErrorKind;
use super::{ApiError, Body};
use crate::clock;
use crate::post::entropy;
use crate::running::Running;
use crate::store::{Store, StoreError};

/// Where tokens are kept.
const PLACE: &str = "token/";
const PREFIX: &str = "souk_";
/// Most tokens that are kept.
const TOKENS_MAX: usize = 256;
/// Longest name.
const NAME_CHARS_MAX: usize = 60;

/// `POST /v1/tokens`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For whom or what it is, up to 60 characters.
    #[serde(default)]
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// When it ends, in seconds from now; none for when it is revoked.
    #[serde(default)]
    pub expires_in_secs: Option<u64>,
}

/// Answer to [`TokenRequest`]: the only time that the token is shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenReply {
    /// What the caller sends in the header `Authorization: Bearer …`.
    pub token: String,
    /// What it is.
    #[serde(flatten)]
    pub view: TokenView,
}

/// A token, without what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// Names it.
    pub id: String,
    /// For whom or what it is.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// When it was made.
    pub created: Unix,
    /// When it ends by itself.
    pub expires: Option<Unix>,
}

/// What is kept of a token.
#[derive(Serialize, Deserialize)]
struct Kept {
    hash: String,
    #[serde(flatten)]
    view: TokenView,
}

pub(super) fn routes() -> ApiRouter<Arc<Running>> {
    ApiRouter::new()
        .api_route("/v1/tokens", get(Scope::Admin, "The tokens that are good", list))
        .api_route("/v1/tokens", post(Scope::Admin, "Make a token", create))
        .api_route("/v1/tokens/{id}/revoke", post(Scope::Admin, "End a token", revoke))
}

async fn create(
    State(daemon): State<Arc<Running>>,
    Body(request): Body<TokenRequest>,
) -> Result<Json<TokenReply>, ApiError> {
    Ok(Json(make(&daemon.store, request)?))
}

/// Makes a token and keeps what it takes to know it again.
pub(crate) fn make(store: &Store, request: TokenRequest) -> Result<TokenReply, ApiError> {
    let now = clock::unix();
    if request.name.chars().count() > NAME_CHARS_MAX || request.name.chars().any(char::is_control) {
        let why = format!("a name has up to {NAME_CHARS_MAX} characters, none of which steers a terminal");
        return Err(ApiError::new(ErrorKind::Usage, why));
    }
    if request.expires_in_secs == Some(0) {
        return Err(ApiError::new(ErrorKind::Usage, "it would have ended before anybody could use it"));
    }
    if good(store, now)?.len() >= TOKENS_MAX {
        return Err(ApiError::new(ErrorKind::Refused, format!("there are {TOKENS_MAX} tokens; revoke some first")));
    }
    let random = || entropy().map_err(|e| ApiError::new(ErrorKind::Fault, e.to_string()));
    let (id, secret) = (hex32(&random()?)[..8].to_owned(), random()?);
    let expires = request.expires_in_secs.map(|secs| Unix(now.0.saturating_add(secs)));
    let view = TokenView { id, name: request.name, scope: request.scope, created: now, expires };
    let kept = Kept { hash: hashed(&secret), view: view.clone() };
    let body = serde_json::to_vec(&kept).map_err(|e| ApiError::new(ErrorKind::Fault, e.to_string()))?;
    store.put(&format!("{PLACE}{}", view.id), &body)?;
    Ok(TokenReply { token: format!("{PREFIX}{}_{}", view.id, hex32(&secret)), view })
}

async fn list(State(daemon): State<Arc<Running>>) -> Result<Json<Vec<TokenView>>, ApiError> {
    Ok(Json(good(&daemon.store, clock::unix())?))
}

/// Which token.
#[derive(Deserialize, JsonSchema)]
struct Which {
    /// Its id.
    id: String,
}

async fn revoke(State(daemon): State<Arc<Running>>, Path(which): Path<Which>) -> Result<Json<TokenView>, ApiError> {
    let none = || ApiError::new(ErrorKind::NotFound, format!("there is no token {:?}; `souk token list`", which.id));
    let kept = find(&daemon.store, &which.id)?.ok_or_else(none)?;
    daemon.store.remove(&format!("{PLACE}{}", kept.view.id))?;
    Ok(Json(kept.view))
}

/// Tokens that have not ended. Those that have are forgotten.
fn good(store: &Store, now: Unix) -> Result<Vec<TokenView>, StoreError> {
    let mut views = Vec::new();
    for (place, body) in store.list(PLACE)? {
        match serde_json::from_slice::<Kept>(&body) {
            Ok(kept) if ended(&kept.view, now) => store.remove(&place)?,
            Ok(kept) => views.push(kept.view),
            Err(error) => tracing::error!(%place, %error, "a token cannot be read and is not good"),
        }
    }
    views.sort_by_key(|view| view.created);
    Ok(views)
}

fn find(store: &Store, id: &str) -> Result<Option<Kept>, StoreError> {
    let body = store.get(&format!("{PLACE}{id}"))?;
    Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
}

fn ended(view: &TokenView, now: Unix) -> bool {
    view.expires.is_some_and(|expires| expires <= now)
}

fn hashed(secret: &[u8; 32]) -> String {
    hex32(&sha256::Hash::hash(secret).to_byte_array())
}

/// What a token allows now. Hashes are compared, so how long that takes tells nothing about a secret.
fn scope_of(store: &Store, token: &str, now: Unix) -> Result<Option<Scope>, StoreError> {
    let parts = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    let Some((id, secret)) = parts else { return Ok(None) };
    let Ok(secret) = parse_hex32(secret) else { return Ok(None) };
    let kept = find(store, id)?.filter(|kept| kept.hash == hashed(&secret) && !ended(&kept.view, now));
    Ok(kept.map(|kept| kept.view.scope))
}

/// Lets a request over TCP go on with what its token allows.
pub(super) async fn authenticate(State(store): State<Arc<Store>>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).map(str::trim);
    let Some(token) = token else {
        let why = "show a token: Authorization: Bearer …, made by `souk token new --scope read`";
        return ApiError::new(ErrorKind::Unauthorized, why).into_response();
    };
    match scope_of(&store, token, clock::unix()) {
        Ok(Some(scope)) => {
            request.extensions_mut().insert(Granted(scope));
            next.run(request).await
        }
        Ok(None) => {
            ApiError::new(ErrorKind::Unauthorized, "this token is not good: it has ended, or was revoked, or never was")
                .into_response()
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}
