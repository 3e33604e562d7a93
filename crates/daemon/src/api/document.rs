//! The OpenAPI document of the API, made from the routes themselves.

use aide::openapi::{Info, OpenApi, SecurityScheme};
use aide::transform::TransformOpenApi;

use super::access::TOKEN;
use super::types::ErrorBody;

/// What stands at its head.
pub(super) fn begin() -> OpenApi {
    OpenApi {
        info: Info {
            title: "Souk".to_owned(),
            description: Some(
                "The local API of a Souk daemon. Amounts say their unit in their name; ids and keys are hex; times are Unix seconds, \
                 deadlines block heights."
                    .to_owned(),
            ),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Info::default()
        },
        ..OpenApi::default()
    }
}

/// What holds for every route.
pub(super) fn end(document: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let token = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: Some("souk_ID_SECRET".to_owned()),
        description: Some("Over TCP only: made by `souk token new`. On the Unix socket nothing is shown.".to_owned()),
        extensions: Default::default(),
    };
    document.security_scheme(TOKEN, token).default_response::<axum::Json<ErrorBody>>()
}
