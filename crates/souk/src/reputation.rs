//! What ratings say about somebody, and what one is to make of it.

use daemon::Of;
use daemon::api::reputation::{RatedView, RatingView, RecordView, ReputationView};
use daemon::api::types::Status;

use crate::args::Reputation;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};

/// Ratings shown to people; `--json` has more.
const ROWS: usize = 20;

pub(crate) async fn obey(client: &Client, what: Reputation, show: &Show) -> Result<(), Failure> {
    let of = named(client, what.of.as_deref()).await?;
    let view: ReputationView = client.get(&format!("/v1/reputation?of={of}")).await?;
    show.answer(&view, in_words)
}

/// Who or what is asked about, checked; ourselves when nobody is named.
async fn named(client: &Client, of: Option<&str>) -> Result<String, Failure> {
    let Some(text) = of else {
        let status: Status = client.get("/v1/status").await?;
        let nobody = || Failure::usage("a board alone has no identity: name a key or a board");
        return status.identity.map(|key| key.to_string()).ok_or_else(nobody);
    };
    match text.parse::<Of>().map_err(Failure::usage)? {
        Of::Key(key) => Ok(key.to_string()),
        // It becomes part of an address.
        Of::Board(url) if url.bytes().all(|b| b.is_ascii_graphic() && !b"&#%+".contains(&b)) => Ok(url),
        Of::Board(url) => Err(Failure::usage(format!("{url:?} has characters that no address of a board has"))),
    }
}

fn in_words(view: &ReputationView) -> String {
    let mut text: Vec<String> = view.records.iter().map(record).collect();
    let refused: usize = view.refused.values().sum();
    if refused > 0 {
        let reasons: Vec<_> = view.refused.iter().map(|(code, count)| format!("{code} {count}")).collect();
        text.push(format!("{refused} ratings met on the way do not count: {}", reasons.join(", ")));
    }
    text.join("\n\n")
}

fn record(of: &RecordView) -> String {
    let role = match of.rated {
        RatedView::User => "as a buyer or seller",
        RatedView::Arbiter => "as an arbiter",
        RatedView::Board => "as a board",
    };
    let s = &of.standing;
    let mut text = format!("{role}: stands at {:.2} of 5 with you", s.rating);
    let or_nobody = |rating: Option<f64>| rating.map_or("nothing".to_owned(), |rating| format!("{rating:.2}"));
    text += &format!("\n  you said {}", or_nobody(s.own));
    text += &format!(
        "\n  {} raters whom your trades lead to say {}; together they weigh as {:.2} people you traded with",
        s.reached,
        or_nobody(s.reached_rating),
        s.weight
    );
    text += &format!(
        "\n  {} strangers say {}; together they count as one rater more, and as little",
        s.strangers,
        or_nobody(s.strangers_rating)
    );
    let Some(score) = of.score else { return text + "\n  nobody rated it, as far as the boards know" };
    text += &format!(
        "\n  DOMP score {score:.2}: {} ratings by {} raters, {} sat, {} with the secret of the payment, {} after a ruling, \
         blocks {} to {}",
        of.count, of.raters, of.value_sat.0, of.settled, of.disputed, of.from_height.0, of.to_height.0
    );
    let rows = of.ratings.iter().take(ROWS).map(row).collect();
    format!("{text}\n{}", table(&["rating", "weight", "sat", "block", "rater", "in words"], rows))
}

fn row(r: &RatingView) -> Vec<String> {
    let marks = if r.disputed { " (ruled)" } else { "" };
    vec![
        format!("{}{marks}", r.rating),
        format!("{:.2}", r.weight),
        r.value_sat.0.to_string(),
        r.height.0.to_string(),
        short(r.rater),
        r.comment.clone().unwrap_or_default(),
    ]
}
