//! Who may use a route, and routes that cannot exist without saying so.
//!
//! Whoever opens the Unix socket may do everything. Whoever comes over TCP shows a token, which carries a [`Scope`].

use std::convert::Infallible;
use std::str::FromStr;

use aide::OperationOutput;
use aide::axum::routing::{self, ApiMethodRouter};
use aide::operation::{OperationHandler, OperationInput};
use aide::transform::TransformOperation;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::types::ErrorKind;

/// Name of the way in which a caller shows a token, in the document.
pub(super) const TOKEN: &str = "token";

/// What a token allows. Each allows what those before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything: trades, balances, chat.
    Read,
    /// List, bid and take every step of a trade, which locks and releases money under the rules of escrow; make invoices.
    Trade,
    /// Spend: pay, send, open and close channels.
    Funds,
    /// Everything, the board's policy and other tokens included.
    Admin,
}

impl Scope {
    /// Its name, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Trade => "trade",
            Scope::Funds => "funds",
            Scope::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        [Scope::Read, Scope::Trade, Scope::Funds, Scope::Admin]
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or_else(|| format!("{text:?} is none of read, trade, funds, admin"))
    }
}

/// What the caller of a request may do; put there by whatever took the connection.
#[derive(Clone, Copy)]
pub(super) struct Granted(pub(super) Scope);

/// Answers `GET` of callers with `scope`; `about` says what it is, in the document.
pub(super) fn get<H, I, O, T, S>(scope: Scope, about: &str, handler: H) -> ApiMethodRouter<S, Infallible>
where
    H: Handler<T, S> + OperationHandler<I, O>,
    I: OperationInput,
    O: OperationOutput,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    guarded(scope, routing::get_with(handler, described(scope, about)))
}

/// Answers `POST` of callers with `scope`; `about` says what it is, in the document.
pub(super) fn post<H, I, O, T, S>(scope: Scope, about: &str, handler: H) -> ApiMethodRouter<S, Infallible>
where
    H: Handler<T, S> + OperationHandler<I, O>,
    I: OperationInput,
    O: OperationOutput,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    guarded(scope, routing::post_with(handler, described(scope, about)))
}

fn described(scope: Scope, about: &str) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| operation.summary(about).security_requirement_scopes(TOKEN, [scope.name()])
}

fn guarded<S: Clone + Send + Sync + 'static>(
    scope: Scope,
    route: ApiMethodRouter<S, Infallible>,
) -> ApiMethodRouter<S, Infallible> {
    route.route_layer(from_fn(move |request, next| admit(scope, request, next)))
}

/// Nothing granted is nothing allowed.
async fn admit(scope: Scope, request: Request, next: Next) -> Response {
    match request.extensions().get::<Granted>() {
        Some(Granted(granted)) if *granted >= scope => next.run(request).await,
        Some(Granted(granted)) => {
            let (has, needs) = (granted.name(), scope.name());
            let why =
                format!("this token may {has}; that needs one with scope {needs}: souk token new --scope {needs}");
            ApiError::new(ErrorKind::Forbidden, why).into_response()
        }
        None => ApiError::new(ErrorKind::Forbidden, "no token was shown").into_response(),
    }
}
