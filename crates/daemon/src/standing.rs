//! What ratings on the boards say about somebody, and what our user is to make of it.

use std::collections::{BTreeMap, BTreeSet};

use reputation::{Acquaintance, Rating, Score, Subject, Web};
use trade::PartyKey;
use units::{Height, hex32};
use wire::domp::kind;
use wire::event::Event;
use wire::filter::Filter;

use crate::api::reputation::{LabelsTaken, RatedView, RatingView, RecordView, ReputationView, StandingView};
use crate::board_link::BoardLink;
use crate::clock;
use crate::desk::DeskError;
use crate::running::Running;

/// How far from the viewer and from whoever is asked about ratings are followed.
const STEPS: usize = 3;
/// Most keys that one filter names.
const KEYS_MAX: usize = 500;
/// Most events that one filter asks of a board.
const EVENTS_MAX: u64 = 1000;
/// Most ratings that are read in all.
const RATINGS_MAX: usize = 5000;
/// Most ratings that an answer lists, newest first.
const LISTED_MAX: usize = 200;
/// Most ratings that are kept of those that files brought.
const IMPORTED_MAX: usize = 2000;
/// Where they are kept.
const IMPORTED: &str = "rating/";
/// Kinds of ratings.
const KINDS: [u16; 3] = [kind::RATING, kind::ARBITER_RATING, kind::BOARD_RATING];

/// Where the viewer stands.
pub(crate) struct Circle {
    /// Keys that it traded with.
    pub(crate) ours: BTreeSet<PartyKey>,
    /// With whom it settled trades.
    pub(crate) known: Vec<Acquaintance>,
    /// Height of the chain.
    pub(crate) tip: Height,
}

/// What was found on the boards.
#[derive(Default)]
struct Found {
    /// Ratings that count, with their events.
    ratings: BTreeMap<[u8; 32], (Rating, Event)>,
    /// Ids of those that do not, and the code of the reason.
    refused: BTreeMap<[u8; 32], &'static str>,
    /// Keys that were asked about.
    asked: BTreeSet<PartyKey>,
}

/// Who or what is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// A user or an arbiter.
    Key(PartyKey),
    /// A board, by its address.
    Board(String),
}

impl std::str::FromStr for Of {
    type Err = String;

    fn from_str(text: &str) -> Result<Of, String> {
        if text.starts_with("ws://") || text.starts_with("wss://") {
            return Ok(Of::Board(reputation::board_name(text).to_owned()));
        }
        let key = text.parse().map(Of::Key);
        key.map_err(|e| format!("{text:?} is neither the address of a board (ws:// or wss://) nor a public key: {e}"))
    }
}

impl Of {
    fn subjects(&self) -> Vec<Subject> {
        match self {
            Of::Key(key) => vec![Subject::User(*key), Subject::Arbiter(*key)],
            Of::Board(url) => vec![Subject::Board(url.clone())],
        }
    }
}

impl Running {
    /// What ratings say about a key or a board, and how it stands with our user.
    pub async fn reputation(&self, of: &Of) -> Result<ReputationView, DeskError> {
        let circle = self.circle().await?;
        let found = self.gather(of, &circle).await?;
        Ok(tokio::task::block_in_place(|| view(of, &circle, self.identity, found)))
    }

    /// Labels (NIP-32) of the ratings of a key or a board, newest first, signed by us, one line each.
    pub async fn labels(&self, of: &Of) -> Result<Vec<String>, DeskError> {
        let circle = self.circle().await?;
        let found = self.gather(of, &circle).await?;
        let (subjects, now) = (of.subjects(), clock::unix());
        let mut of_it: Vec<_> =
            found.ratings.into_values().filter(|(rating, _)| subjects.contains(&rating.subject)).collect();
        of_it.sort_by_key(|(rating, _)| std::cmp::Reverse((rating.at, rating.id)));
        let line = |(rating, event): &(Rating, Event)| {
            reputation::label(rating, event, self.identity.0, now).sign(&self.identity_pair, &[0; 32]).to_json()
        };
        Ok(tokio::task::block_in_place(|| of_it.iter().take(IMPORTED_MAX).map(line).collect()))
    }

    /// Takes ratings in from lines of text, in labels or as they are. They count like those that boards have.
    pub async fn take_labels(&self, lines: &str) -> Result<LabelsTaken, DeskError> {
        let tip = self.circle().await?.tip;
        tokio::task::block_in_place(|| {
            let mut known: BTreeSet<String> = self.store.list(IMPORTED)?.into_iter().map(|(name, _)| name).collect();
            let mut taken = LabelsTaken::default();
            for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let rating = reputation::from_label(line).and_then(|event| Ok((reputation::read(&event, tip)?, event)));
                let refused = match rating {
                    Ok((rating, _)) if known.contains(&format!("{IMPORTED}{}", rating.id)) => {
                        taken.known += 1;
                        continue;
                    }
                    Ok(_) if known.len() >= IMPORTED_MAX => "full",
                    Ok((rating, event)) => {
                        let name = format!("{IMPORTED}{}", rating.id);
                        self.store.put(&name, event.to_json().as_bytes())?;
                        known.insert(name);
                        taken.taken += 1;
                        continue;
                    }
                    Err(error) => error.code(),
                };
                *taken.refused.entry(refused.to_owned()).or_default() += 1;
            }
            Ok(taken)
        })
    }

    fn imported(&self) -> Result<Vec<Event>, DeskError> {
        let kept = self.store.list(IMPORTED)?;
        let read = |json: &[u8]| std::str::from_utf8(json).ok().and_then(|json| reputation::from_label(json).ok());
        Ok(kept.iter().filter_map(|(_, json)| read(json)).collect())
    }

    async fn circle(&self) -> Result<Circle, DeskError> {
        match &self.desk {
            Some(desk) => desk.circle().await,
            // Without trades there is nobody to start from, and no chain to compare heights with.
            None => Ok(Circle { ours: BTreeSet::from([self.identity]), known: Vec::new(), tip: Height(u32::MAX) }),
        }
    }

    /// Ratings of and by whoever is asked about, our user, and those they lead to, from every board.
    async fn gather(&self, of: &Of, circle: &Circle) -> Result<Found, DeskError> {
        let mut found = Found::default();
        tokio::task::block_in_place(|| Ok::<_, DeskError>(found.take(self.imported()?, circle.tip)))?;
        let rated = |tag: u8, values: Vec<String>| Filter {
            kinds: Some(KINDS.to_vec()),
            tags: BTreeMap::from([(tag, values)]),
            limit: Some(EVENTS_MAX),
            ..Filter::default()
        };
        let authors = circle.ours.iter().take(KEYS_MAX).map(|key| key.0).collect();
        let by_us = Filter { authors: Some(authors), tags: BTreeMap::new(), ..rated(b'p', Vec::new()) };
        let mut next: BTreeSet<PartyKey> = circle.known.iter().map(|known| known.key).collect();
        let mut filters = vec![by_us];
        match of {
            // By itself, so that whoever is asked about does not share its page with others.
            Of::Key(key) => filters.push(rated(b'p', vec![hex32(&key.0)])),
            Of::Board(url) => filters.push(rated(b'r', vec![url.clone()])),
        }
        for _ in 0..STEPS {
            let keys: Vec<_> = next.iter().filter(|key| found.asked.insert(**key)).take(KEYS_MAX).collect();
            if !keys.is_empty() {
                filters.push(rated(b'p', keys.iter().map(|key| hex32(&key.0)).collect()));
            }
            if filters.is_empty() {
                break;
            }
            let answers = BoardLink::ask_all(&self.boards, std::mem::take(&mut filters)).await?;
            let events = answers.into_iter().flat_map(|(_, events)| events);
            next = tokio::task::block_in_place(|| found.take(events, circle.tip));
        }
        Ok(found)
    }
}

impl Found {
    /// Reads what boards brought. Returns the keys that it leads to.
    fn take(&mut self, events: impl IntoIterator<Item = Event>, tip: Height) -> BTreeSet<PartyKey> {
        let mut next = BTreeSet::new();
        for event in events {
            let known = self.ratings.contains_key(&event.id) || self.refused.contains_key(&event.id);
            if known || self.ratings.len() + self.refused.len() >= RATINGS_MAX {
                continue;
            }
            match reputation::read(&event, tip) {
                Ok(rating) => {
                    next.insert(rating.rater);
                    if let Subject::User(key) | Subject::Arbiter(key) = rating.subject {
                        next.insert(key);
                    }
                    self.ratings.insert(event.id, (rating, event));
                }
                // A forged copy must not keep the real one out.
                Err(reputation::Reject::Forged(_)) => {}
                Err(error) => {
                    self.refused.insert(event.id, error.code());
                }
            }
        }
        next.retain(|key| !self.asked.contains(key));
        next
    }
}

fn view(of: &Of, circle: &Circle, viewer: PartyKey, found: Found) -> ReputationView {
    let mut refused = BTreeMap::<String, usize>::new();
    for code in found.refused.values() {
        *refused.entry((*code).to_owned()).or_default() += 1;
    }
    let (ratings, repeated) = reputation::each_once(found.ratings.into_values().map(|(rating, _)| rating));
    let web = Web::new(viewer, &circle.ours, &circle.known, &ratings);
    let records = of.subjects().into_iter().map(|subject| record(&subject, &web, &ratings)).collect::<Vec<_>>();
    let name = match of {
        Of::Key(key) => key.to_string(),
        Of::Board(url) => url.clone(),
    };
    let read = ratings.len();
    // A key that was never rated as an arbiter is no arbiter, as far as anybody knows.
    let shown = records.into_iter().filter(|record| record.count > 0 || record.rated != RatedView::Arbiter);
    ReputationView { of: name, records: shown.collect(), read, repeated, refused }
}

fn record(subject: &Subject, web: &Web, ratings: &[Rating]) -> RecordView {
    let mut of_it: Vec<&Rating> = ratings.iter().filter(|rating| rating.subject == *subject).collect();
    let (score, standing) = (Score::of(of_it.iter().copied()), web.standing(subject));
    of_it.reverse();
    let two = |number: f64| (number * 100.0).round() / 100.0;
    RecordView {
        rated: match subject {
            Subject::User(_) => RatedView::User,
            Subject::Arbiter(_) => RatedView::Arbiter,
            Subject::Board(_) => RatedView::Board,
        },
        score: score.rating().map(two),
        count: score.count,
        settled: score.settled,
        disputed: score.disputed,
        raters: score.raters,
        value_sat: score.value,
        from_height: score.from,
        to_height: score.to,
        standing: StandingView {
            rating: two(standing.rating),
            own: standing.own.map(two),
            reached: standing.reached,
            weight: two(standing.weight),
            reached_rating: standing.reached_rating.map(two),
            strangers: standing.strangers,
            strangers_rating: standing.strangers_rating.map(two),
        },
        ratings: of_it.into_iter().take(LISTED_MAX).map(|rating| rating_view(rating, web)).collect(),
    }
}

fn rating_view(rating: &Rating, web: &Web) -> RatingView {
    RatingView {
        id: rating.id,
        at: rating.at,
        rater: rating.rater,
        role: rating.role,
        rating: rating.rating,
        comment: rating.comment.clone(),
        value_sat: rating.value,
        height: rating.height,
        settled: rating.settled,
        disputed: rating.disputed,
        weight: (web.weight(rating.rater) * 100.0).round() / 100.0,
    }
}
