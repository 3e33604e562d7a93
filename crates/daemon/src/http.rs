//! JSON from a web server that nobody has to trust: of bounded length, and errors that do not show the address, which may hold a token.

/// Longest answer that is read.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Why there is no JSON.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoJson {
    #[error("{0}")]
    Http(reqwest::Error),
    #[error("it answered {0}")]
    Status(reqwest::StatusCode),
    #[error("it answered more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("it answered no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<reqwest::Error> for NoJson {
    fn from(error: reqwest::Error) -> NoJson {
        NoJson::Http(error.without_url())
    }
}

/// What the server answers with success.
pub(crate) async fn json(asked: reqwest::RequestBuilder) -> Result<serde_json::Value, NoJson> {
    let mut answer = asked.send().await?;
    if !answer.status().is_success() {
        return Err(NoJson::Status(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(NoJson::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body)?)
}
