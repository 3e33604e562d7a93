//! What ratings say about somebody, and what one is to make of it.

use std::path::Path;

use daemon::Of;
use daemon::api::reputation::{LabelsTaken, RatedView, RatingView, RecordView, ReputationView};
use daemon::api::types::Status;

use crate::args::{Labels, Reputation};
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{Show, short, table};

/// Ratings shown to people; `--json` has more.
const ROWS: usize = 20;

/// Lines that are sent at once, in bytes: what one request may hold, with room for the last line.
const PIECE_BYTES: usize = 128 * 1024;
/// Longest line.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Largest file.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(crate) async fn obey(client: &Client, what: Reputation, show: &Show) -> Result<(), Failure> {
    match what.labels {
        Some(Labels::Export { of }) => {
            let of = named(client, of.as_deref()).await?;
            let labels: Vec<String> = client.get(&format!("/v1/reputation/labels?of={of}")).await?;
            return labels.iter().try_for_each(|label| show.line(label));
        }
        Some(Labels::Import { file }) => return import(client, file.as_deref(), show).await,
        None => {}
    }
    show.answer(&fetch(client, what.of.as_deref()).await?, in_words)
}

/// What is known of a key or a board; of ourselves when none is named.
pub(crate) async fn fetch(client: &Client, of: Option<&str>) -> Result<ReputationView, Failure> {
    let of = named(client, of).await?;
    client.get(&format!("/v1/reputation?of={of}")).await
}

async fn import(client: &Client, file: Option<&Path>, show: &Show) -> Result<(), Failure> {
    let text = read(file)?;
    let mut all = LabelsTaken::default();
    let mut piece = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.len() > LINE_BYTES_MAX {
            *all.refused.entry("too-long".to_owned()).or_default() += 1;
        } else {
            piece += line;
            piece.push('\n');
        }
        if piece.len() >= PIECE_BYTES || (lines.peek().is_none() && !piece.is_empty()) {
            let body = std::mem::take(&mut piece).into_bytes();
            let part: LabelsTaken = client.send("/v1/reputation/labels", "text/plain", body).await?;
            all.taken += part.taken;
            all.known += part.known;
            for (code, count) in part.refused {
                *all.refused.entry(code).or_default() += count;
            }
        }
    }
    show.answer(&all, |all| {
        let refused: Vec<_> = all.refused.iter().map(|(code, count)| format!("{count} refused: {code}")).collect();
        let mut text = vec![format!("{} ratings taken, {} known before", all.taken, all.known)];
        text.extend(refused);
        text.join("\n")
    })
}

fn read(file: Option<&Path>) -> Result<String, Failure> {
    use std::io::Read as _;
    let input: Box<dyn std::io::Read> = match file {
        Some(path) => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let mut text = String::new();
    let read = input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|e| Failure::usage(format!("cannot read the labels: {e}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("more than {FILE_BYTES_MAX} bytes of labels; import them in parts")));
    }
    Ok(text)
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
        text.push(format!("met on the way and not counted: {} ({})", counted(refused, "rating"), reasons.join(", ")));
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
    if let Some(own) = s.own {
        text += &format!("\n  you said {own:.2}");
    }
    if let Some(said) = s.reached_rating {
        let (raters, weight) = (counted(s.reached, "rater"), s.weight);
        text += &format!(
            "\n  {raters} whom your trades lead to said {said:.2}; weight {weight:.2}, somebody you traded with has 1"
        );
    }
    if let Some(said) = s.strangers_rating {
        let strangers = counted(s.strangers, "stranger");
        text += &format!("\n  {strangers} said {said:.2}; they count as one rater more, however many they are");
    }
    let Some(score) = of.score else { return text + "\n  nobody rated it, as far as the boards know" };
    text += &format!(
        "\n  DOMP score {score:.2}: {} by {}, {} sat, {} with the secret of the payment, {} after a ruling, blocks {} to {}",
        counted(of.count, "rating"),
        counted(of.raters, "rater"),
        of.value_sat.0,
        of.settled,
        of.disputed,
        of.from_height.0,
        of.to_height.0
    );
    let rows = of.ratings.iter().take(ROWS).map(row).collect();
    format!("{text}\n{}", table(&["rating", "weight", "sat", "block", "rater", "in words"], rows))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
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
