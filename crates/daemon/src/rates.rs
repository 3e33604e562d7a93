//! Market prices of bitcoin: asked of the sources that the user names, kept with their age, and none rather than an old one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use reqwest::Url;
use reqwest::redirect::Policy;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trade::{Currency, Money, Premium, fiat};
use units::Unix;

use crate::clock;
use crate::config::{ConfigError, Network};
use crate::http::{self, NoJson};

/// Most sources, over all currencies.
const SOURCES_MAX: usize = 32;
/// How long a source may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// `[fiat]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FiatConfig {
    /// Where market prices come from.
    pub sources: Vec<RateSource>,
    /// Prices that are simply believed, for a machine without network; not on the main network.
    pub fixed: BTreeMap<Currency, Money>,
    /// How often sources are asked, in seconds.
    pub poll_secs: u64,
    /// From which age a price is none, in seconds.
    pub max_age_secs: u64,
    /// How far a rate that a taker quotes may be from ours, in per cent of ours.
    pub tolerance_percent: Premium,
    /// How far the two answers may be apart between which the price is taken, in per cent of the lower one.
    pub max_spread_percent: Premium,
}

/// One source of one currency's price.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSource {
    /// The currency.
    pub currency: Currency,
    /// Answers GET with JSON: `https://`, or `http://` on this machine.
    pub url: String,
    /// Where in the answer one bitcoin's price stands (RFC 6901), a number or a text.
    pub pointer: String,
}

impl Default for FiatConfig {
    fn default() -> FiatConfig {
        FiatConfig {
            sources: Vec::new(),
            fixed: BTreeMap::new(),
            poll_secs: 60,
            max_age_secs: 600,
            tolerance_percent: "1".parse().unwrap_or_default(),
            max_spread_percent: "1".parse().unwrap_or_default(),
        }
    }
}

impl FiatConfig {
    pub(crate) fn check(&self, network: Network) -> Result<(), ConfigError> {
        let value = |key, message: String| Err(ConfigError::Value { key, message });
        if self.sources.len() > SOURCES_MAX {
            return value("fiat.sources", format!("are more than {SOURCES_MAX}"));
        }
        if let Some(source) = self.sources.iter().find(|source| !is_safe(&source.url)) {
            let message = format!("{:?} is neither https:// nor http:// on this machine", source.url);
            return value("fiat.sources", message);
        }
        if let Some(source) = self.sources.iter().find(|source| !source.pointer.starts_with('/')) {
            return value("fiat.sources", format!("pointer {:?} does not begin with /", source.pointer));
        }
        if !self.fixed.is_empty() && network == Network::Bitcoin {
            return value("fiat.fixed", "a price that never changes is not for the main network: name sources".into());
        }
        if !(10..=3600).contains(&self.poll_secs) {
            return value("fiat.poll_secs", format!("{} is not within 10 to 3600", self.poll_secs));
        }
        if !(self.poll_secs..=86_400).contains(&self.max_age_secs) {
            let message = format!("{} is not within fiat.poll_secs to 86400", self.max_age_secs);
            return value("fiat.max_age_secs", message);
        }
        if self.tolerance_percent.in_hundredths() < 0 {
            return value("fiat.tolerance_percent", "is below 0".into());
        }
        if self.max_spread_percent.in_hundredths() < 0 {
            return value("fiat.max_spread_percent", "is below 0".into());
        }
        Ok(())
    }
}

/// Nobody on the way can change what it answers.
fn is_safe(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let local = |host: &str| {
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    };
    match url.scheme() {
        "https" => url.has_host(),
        "http" => url.host_str().is_some_and(local),
        _ => false,
    }
}

/// Why there is no price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRate {
    /// Nobody says where to ask.
    #[error("there is no source of bitcoin's price in {0}: name one in [fiat] of souk.toml")]
    NoSource(Currency),
    /// No more than half of the sources answered lately.
    #[error(
        "bitcoin's price in {0} is not known now: {1} of {2} sources answered lately, which is no majority; see the daemon's log"
    )]
    Unknown(Currency, usize, usize),
    /// The sources contradict each other, and none of them is outvoted.
    #[error(
        "bitcoin's price in {currency} is not known now: sources say {low} and {high}, more than {max} % apart ([fiat] \
         max_spread_percent of souk.toml). Three sources outvote one that lies"
    )]
    Apart {
        /// Whose price.
        currency: Currency,
        /// The lower of the two in the middle.
        low: Money,
        /// The higher.
        high: Money,
        /// The most that they may be apart, in per cent.
        max: Premium,
    },
}

/// A market price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Of one bitcoin.
    pub(crate) price: Money,
    /// When it was seen; the oldest of those that it is the median of.
    pub(crate) at: Unix,
    /// How many sources it is of; none for a fixed one.
    pub(crate) sources: usize,
}

/// The prices that are known.
pub(crate) struct Rates {
    config: FiatConfig,
    /// What each source said last, in the order of the configuration.
    seen: Mutex<Vec<Option<(Money, Unix)>>>,
}

impl Rates {
    /// Asks the sources, now and again, on `tasks` until `shutdown`.
    pub(crate) fn start(
        config: &FiatConfig,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<Arc<Rates>, ConfigError> {
        let seen = Mutex::new(vec![None; config.sources.len()]);
        let rates = Arc::new(Rates { config: config.clone(), seen });
        if !config.sources.is_empty() {
            let trouble = |e: reqwest::Error| ConfigError::Value { key: "fiat.sources", message: e.to_string() };
            // A redirect could lead where `is_safe` would not.
            let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
            tasks.spawn(rates.clone().run(client.map_err(trouble)?, shutdown.clone()));
        }
        Ok(rates)
    }

    /// How far a quoted rate may be from ours.
    pub(crate) fn tolerance(&self) -> Premium {
        self.config.tolerance_percent
    }

    /// The market price: the median of what more than half of the currency's sources said lately. Where that lies between two
    /// answers, they have to agree: of two sources nobody can tell which one lies.
    pub(crate) fn rate(&self, currency: Currency, now: Unix) -> Result<Rate, NoRate> {
        if let Some(price) = self.config.fixed.get(&currency) {
            return Ok(Rate { price: *price, at: now, sources: 0 });
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of: Vec<_> = self.config.sources.iter().zip(seen.iter()).filter(|(s, _)| s.currency == currency).collect();
        if of.is_empty() {
            return Err(NoRate::NoSource(currency));
        }
        let fresh = |at: &Unix| now.0.saturating_sub(at.0) <= self.config.max_age_secs;
        let mut known: Vec<_> = of.iter().filter_map(|(_, seen)| **seen).filter(|(_, at)| fresh(at)).collect();
        if known.len() * 2 <= of.len() {
            return Err(NoRate::Unknown(currency, known.len(), of.len()));
        }
        known.sort_unstable();
        let at = known.iter().map(|(_, at)| *at).min().unwrap_or(now);
        let (low, high) = (known[(known.len() - 1) / 2].0, known[known.len() / 2].0);
        let max = self.config.max_spread_percent;
        if !fiat::within(high, low, max) {
            return Err(NoRate::Apart { currency, low, high, max });
        }
        let price = Money::hundredths(low.in_hundredths().midpoint(high.in_hundredths())).unwrap_or(low);
        Ok(Rate { price, at, sources: known.len() })
    }

    async fn run(self: Arc<Rates>, client: reqwest::Client, shutdown: CancellationToken) {
        let mut polls = tokio::time::interval(Duration::from_secs(self.config.poll_secs));
        while shutdown.run_until_cancelled(polls.tick()).await.is_some() {
            let asked = join_all(self.config.sources.iter().map(|source| ask(&client, source)));
            let Some(answers) = shutdown.run_until_cancelled(asked).await else { return };
            let now = clock::unix();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            for ((source, slot), answer) in self.config.sources.iter().zip(seen.iter_mut()).zip(answers) {
                match answer {
                    Ok(price) => *slot = Some((price, now)),
                    // The address may hold a token.
                    Err(why) => tracing::warn!(currency = %source.currency, %why, "a source gave no price"),
                }
            }
        }
    }
}

/// Why a source gave no price.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    NoJson(#[from] NoJson),
    #[error("there is no price at {0:?}")]
    NoPrice(String),
}

async fn ask(client: &reqwest::Client, source: &RateSource) -> Result<Money, NoAnswer> {
    let json = http::json(client.get(&source.url).header("accept", "application/json")).await?;
    json.pointer(&source.pointer).and_then(price).ok_or_else(|| NoAnswer::NoPrice(source.pointer.clone()))
}

/// A price that stands as a number or as a text; more than two places are cut.
fn price(value: &serde_json::Value) -> Option<Money> {
    let text = match value {
        serde_json::Value::String(text) => text.trim().to_owned(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let Some((whole, fraction)) = text.split_once('.') else { return text.parse().ok() };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{whole}.{}", &fraction[..fraction.len().min(2)]).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Unix = Unix(1_000_000);

    fn eur() -> Currency {
        "EUR".parse().unwrap()
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn source(url: &str) -> RateSource {
        RateSource { currency: eur(), url: url.to_owned(), pointer: "/p".to_owned() }
    }

    /// So many sources, of which these said this so many seconds ago.
    fn of(sources: usize, said: &[(&str, u64)]) -> Rates {
        let config = FiatConfig { sources: vec![source("https://a"); sources], ..FiatConfig::default() };
        let mut seen: Vec<_> = said.iter().map(|(text, ago)| Some((money(text), Unix(NOW.0 - ago)))).collect();
        seen.resize(sources, None);
        Rates { config, seen: Mutex::new(seen) }
    }

    fn rates(said: &[(&str, u64)]) -> Rates {
        of(3, said)
    }

    #[test]
    fn one_source_that_lies_moves_nothing() {
        let rate = rates(&[("60000", 5), ("1", 7), ("60100", 9)]).rate(eur(), NOW).unwrap();
        assert_eq!((rate.price, rate.at, rate.sources), (money("60000"), Unix(NOW.0 - 9), 3));
        let two = rates(&[("60000", 5), ("60101", 5)]).rate(eur(), NOW).unwrap();
        assert_eq!(two.price, money("60050.5"));
    }

    #[test]
    fn two_sources_are_believed_only_when_they_agree() {
        let apart = |low, high| {
            let max = "1".parse().unwrap();
            Err(NoRate::Apart { currency: eur(), low: money(low), high: money(high), max })
        };
        let price = |rates: Rates| rates.rate(eur(), NOW).map(|rate| rate.price);
        assert_eq!(price(of(2, &[("60600", 0), ("60000", 0)])), Ok(money("60300")), "one per cent apart");
        assert_eq!(price(of(2, &[("60600.01", 0), ("60000", 0)])), apart("60000", "60600.01"));
        assert_eq!(price(of(2, &[("1", 0), ("60000", 0)])), apart("1", "60000"));
        let silent = price(of(2, &[("1", 0), ("60000", 601)]));
        assert_eq!(silent, Err(NoRate::Unknown(eur(), 1, 2)), "whoever silences the other one sets no price");
        assert_eq!(price(of(3, &[("1", 0), ("60000", 0)])), apart("1", "60000"), "the third one is away");
        assert_eq!(price(of(4, &[("1", 0), ("60000", 0), ("60100", 0), ("60200", 0)])), Ok(money("60050")));
        assert_eq!(price(of(4, &[("1", 0), ("1", 0), ("60100", 0), ("60200", 0)])), apart("1", "60100"));
        assert_eq!(price(of(1, &[("1", 0)])), Ok(money("1")), "one source is believed");
        let strict = Rates {
            config: FiatConfig { max_spread_percent: Premium::default(), ..of(2, &[]).config },
            ..of(2, &[("60000", 0), ("60000.01", 0)])
        };
        assert!(matches!(price(strict), Err(NoRate::Apart { .. })));
    }

    #[test]
    fn too_few_or_too_old_answers_are_no_price() {
        let unknown = |count| Err(NoRate::Unknown(eur(), count, 3));
        assert_eq!(rates(&[]).rate(eur(), NOW), unknown(0));
        assert_eq!(rates(&[("60000", 0)]).rate(eur(), NOW), unknown(1));
        assert_eq!(rates(&[("60000", 601), ("60000", 0), ("60000", 700)]).rate(eur(), NOW), unknown(1));
        assert!(rates(&[("60000", 600), ("60000", 0)]).rate(eur(), NOW).is_ok());
        let usd: Currency = "USD".parse().unwrap();
        assert_eq!(rates(&[("60000", 0)]).rate(usd, NOW), Err(NoRate::NoSource(usd)));
    }

    #[test]
    fn prices_are_read_from_numbers_and_texts_and_nothing_else() {
        let read = |json: &str| price(&serde_json::from_str(json).unwrap()).map(|money| money.to_string());
        for (json, same) in
            [("60000", "60000"), ("60123.456", "60123.45"), ("\"61000.5\"", "61000.5"), ("60000.0", "60000")]
        {
            assert_eq!(read(json).as_deref(), Some(same), "{json}");
        }
        for json in ["null", "true", "[1]", "-5", "0", "1e30", "\"60,000\"", "\"\"", "\"1.2.3\"", "\"1.\""] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn a_configuration_that_could_be_tampered_with_is_refused() {
        let check = |config: FiatConfig, network| config.check(network).map_err(|error| error.to_string());
        let with = |url: &str| FiatConfig { sources: vec![source(url)], ..FiatConfig::default() };
        for url in ["https://a.example/x", "http://127.0.0.1:80/x", "http://[::1]/x", "http://localhost/x"] {
            assert_eq!(check(with(url), Network::Bitcoin), Ok(()), "{url}");
        }
        for url in ["http://a.example/x", "ftp://127.0.0.1", "x", "http://localhost.example", "http://127.0.0.1.nip.io"]
        {
            assert!(check(with(url), Network::Bitcoin).unwrap_err().contains("https://"), "{url}");
        }
        let fixed = FiatConfig { fixed: [(eur(), money("60000"))].into(), ..FiatConfig::default() };
        assert!(check(fixed.clone(), Network::Bitcoin).unwrap_err().contains("main network"));
        assert_eq!(check(fixed, Network::Regtest), Ok(()));
        let backwards = FiatConfig { max_spread_percent: "-1".parse().unwrap(), ..FiatConfig::default() };
        assert!(check(backwards, Network::Bitcoin).unwrap_err().contains("max_spread_percent"));
        let hasty = FiatConfig { poll_secs: 1, ..FiatConfig::default() };
        assert!(check(hasty, Network::Regtest).unwrap_err().contains("10 to 3600"));
    }

    /// A source on this machine that answers in one way for each path.
    async fn a_source() -> String {
        use axum::http::StatusCode;
        use axum::response::Redirect;
        use axum::routing::get;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/good", get(|| async { r#"{"p":"61234.567"}"# }))
            .route("/moved", get(|| async { Redirect::temporary("/good") }))
            .route("/broken", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, r#"{"p":1}"#) }))
            .route("/long", get(|| async { format!(r#"{{"x":"{}","p":1}}"#, "x".repeat(http::ANSWER_BYTES_MAX)) }))
            .route("/text", get(|| async { "61234" }))
            .route("/elsewhere", get(|| async { r#"{"q":61234}"# }));
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, router).await });
        at
    }

    #[tokio::test]
    async fn a_source_that_answers_is_believed_and_no_other() {
        let at = a_source().await;
        let config =
            |path: &str| FiatConfig { sources: vec![source(&format!("{at}/{path}"))], ..FiatConfig::default() };
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let rates = Rates::start(&config("good"), &tasks, &shutdown).unwrap();
        let began = std::time::Instant::now();
        while rates.rate(eur(), clock::unix()).is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "the source was never asked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(rates.rate(eur(), clock::unix()).unwrap().price, money("61234.56"));
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;

        let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        for (path, why) in [
            ("moved", "307"),
            ("broken", "500"),
            ("long", "more than"),
            ("text", "no price"),
            ("elsewhere", "no price"),
            ("none", "404"),
        ] {
            let error = ask(&client, &source(&format!("{at}/{path}"))).await.unwrap_err().to_string();
            assert!(error.contains(why), "{path}: {error}");
            assert!(!error.contains("127.0.0.1"), "an address may hold a token");
        }
    }
}
