//! The daemon's API itself: its document, tokens for it, and its stream of events.

use daemon::api::access::Scope;
use daemon::api::tokens::{TokenReply, TokenRequest, TokenView};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Token;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, table};

/// Longest event that is read, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// `souk openapi`
pub(crate) async fn document(client: &Client, show: &Show) -> Result<(), Failure> {
    let document: Value = client.get("/v1/openapi.json").await?;
    show.line(&serde_json::to_string_pretty(&document).map_err(|e| Failure::fault(e.to_string()))?)
}

/// `souk token …`
pub(crate) async fn tokens(client: &Client, what: Token, show: &Show) -> Result<(), Failure> {
    match what {
        Token::New { scope, name, days } => {
            let expires_in_secs = days.map(|days| u64::from(days) * 86_400);
            let request = TokenRequest { name, scope, expires_in_secs };
            let reply: TokenReply = client.post("/v1/tokens", &request).await?;
            show.named(&reply, &reply.token, |r| {
                format!(
                    "{}\n\nit allows {} and is not shown again; send it as \"Authorization: Bearer …\"",
                    r.token,
                    allows(r.view.scope)
                )
            })
        }
        Token::List => {
            let tokens: Vec<TokenView> = client.get("/v1/tokens").await?;
            show.answer(&tokens, |tokens| {
                let row = |t: &TokenView| {
                    let expires = t.expires.map_or_else(|| "never".to_owned(), |at| at.to_string());
                    vec![t.id.clone(), t.scope.name().to_owned(), t.name.clone(), t.created.to_string(), expires]
                };
                table(&["id", "scope", "name", "made", "ends"], tokens.iter().map(row).collect())
            })
        }
        Token::Revoke { id } => {
            let gone: TokenView = client.post(&format!("/v1/tokens/{id}/revoke"), &()).await?;
            show.named(&gone, &gone.id, |t| format!("the token {} is not good any more", t.id))
        }
    }
}

fn allows(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "looking at everything",
        Scope::Trade => "looking and trading",
        Scope::Funds => "looking, trading and spending",
        Scope::Admin => "everything",
    }
}

/// Lines of server-sent events, put together from the pieces that arrive.
#[derive(Default)]
pub(crate) struct Events {
    rest: Vec<u8>,
    name: String,
}

impl Events {
    /// Gives each event that `piece` completes to `take`, by its name and data, until that says no. An error says what is wrong with
    /// the stream.
    pub(crate) fn read(
        &mut self,
        piece: &[u8],
        take: &mut (dyn FnMut(&str, &str) -> Result<bool, Failure> + Send),
    ) -> Result<bool, Failure> {
        self.rest.extend_from_slice(piece);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(name) = line.strip_prefix("event:") {
                name.trim().clone_into(&mut self.name);
            } else if let Some(data) = line.strip_prefix("data:")
                && !take(&self.name, data.trim_start())?
            {
                return Ok(false);
            }
        }
        if self.rest.len() > EVENT_BYTES_MAX {
            return Err(Failure::fault("the daemon sent an event that is too long"));
        }
        Ok(true)
    }
}

/// The data of an event.
pub(crate) fn data<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::fault(format!("the daemon's event is not understood: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_pieces_they_come_in() {
        let text = b": beat\n\nevent: trade\ndata: {\"a\":1}\n\nevent: ready\r\ndata: {}\r\n\r\n";
        for size in 1..text.len() {
            let (mut events, mut seen) = (Events::default(), Vec::new());
            for piece in text.chunks(size) {
                let mut take = |name: &str, data: &str| {
                    seen.push((name.to_owned(), data.to_owned()));
                    Ok(true)
                };
                assert!(events.read(piece, &mut take).unwrap());
            }
            let wanted = [("trade", "{\"a\":1}"), ("ready", "{}")].map(|(n, d)| (n.to_owned(), d.to_owned()));
            assert_eq!(seen, wanted, "{size}");
        }
    }

    #[test]
    fn a_reader_that_has_enough_reads_no_further() {
        let mut count = 0;
        let mut take = |_: &str, _: &str| {
            count += 1;
            Ok(false)
        };
        assert!(!Events::default().read(b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", &mut take).unwrap());
        assert_eq!(count, 1);
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        assert!(Events::default().read(&vec![b'x'; EVENT_BYTES_MAX + 1], &mut |_, _| Ok(true)).is_err());
    }
}
