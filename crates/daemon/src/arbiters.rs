//! Arbiters that can be had: whom listings name and who offers itself, with what each claims, what ratings attest, and what our own
//! trades saw.

use std::collections::{BTreeMap, BTreeSet};

use reputation::{Claim, KIND_SERVICE, Rating, SERVICE_D, Score, Subject};
use trade::PartyKey;
use units::{Height, Unix, hex32};
use wire::domp::kind;
use wire::event::Event;
use wire::filter::Filter;

use crate::api::arbiter::{ArbiterView, AttestedView, ClaimView, SeenView, ServiceView, StatsView};
use crate::board_link::BoardLink;
use crate::clock;
use crate::desk::DeskError;
use crate::running::Running;

/// Most arbiters that an answer lists.
const LISTED_MAX: usize = 200;
/// Most claims, and most ratings, that are asked of each board at once.
const EVENTS_MAX: u64 = 500;
/// Most of each that are read in all.
const READ_MAX: usize = 5000;
/// How far ahead of ours the clock of a claim may be, in seconds.
const AHEAD_MAX: u64 = 3600;

impl Running {
    /// What our own log says of our service as an arbiter, and what we tell others of it.
    pub async fn arbiter_stats(&self) -> Result<StatsView, DeskError> {
        let service = self.desk()?.service().await?;
        let arbiter = self.arbiter.as_ref();
        Ok(StatsView {
            arbiter: self.identity,
            serving: arbiter.is_some(),
            published: arbiter.is_some_and(|config| config.publish),
            service: ServiceView::of(&service),
        })
    }

    /// Arbiters that listings name, that offer themselves or that served in our own trades: those first that we traded with, then by
    /// how many listings name them.
    pub async fn arbiters(&self) -> Result<Vec<ArbiterView>, DeskError> {
        let desk = self.desk()?;
        let (seen, tip) = (desk.seen_arbiters().await?, desk.circle().await?.tip);
        let named = self.named_by_listings().await?;
        let known: BTreeSet<_> = seen.keys().chain(named.keys()).copied().collect();
        let claims = self.claims(&known).await?;
        let mut keys: Vec<_> =
            known.iter().chain(claims.keys()).copied().collect::<BTreeSet<_>>().into_iter().collect();
        let place = |key: &PartyKey| {
            let own = seen.get(key).map_or(0, |seen| seen.trades);
            std::cmp::Reverse((own, named.get(key).copied().unwrap_or(0)))
        };
        keys.sort_by_key(place);
        keys.truncate(LISTED_MAX);
        let ratings = self.ratings_of(&keys, tip).await?;
        let view = |key: PartyKey| view(key, &named, &claims, &ratings, seen.get(&key));
        Ok(keys.into_iter().map(view).collect())
    }

    /// How many listings name each arbiter.
    async fn named_by_listings(&self) -> Result<BTreeMap<PartyKey, usize>, DeskError> {
        let mut named = BTreeMap::new();
        for listing in self.listings().await?.listings {
            let arbiters: BTreeSet<_> = listing.escrow.into_iter().flat_map(|terms| terms.arbiters).collect();
            for key in arbiters {
                *named.entry(key).or_default() += 1;
            }
        }
        Ok(named)
    }

    /// The newest claim of each. Those of `known` are asked for by name, so that strangers cannot crowd them out.
    async fn claims(&self, known: &BTreeSet<PartyKey>) -> Result<BTreeMap<PartyKey, Claim>, DeskError> {
        let of_anybody = Filter {
            kinds: Some(vec![KIND_SERVICE]),
            tags: BTreeMap::from([(b'd', vec![SERVICE_D.to_owned()])]),
            limit: Some(EVENTS_MAX),
            ..Filter::default()
        };
        let authors: Vec<_> = known.iter().take(LISTED_MAX).map(|key| key.0).collect();
        let mut filters = vec![of_anybody.clone()];
        if !authors.is_empty() {
            filters.push(Filter { authors: Some(authors), ..of_anybody });
        }
        let latest = Unix(clock::unix().0 + AHEAD_MAX);
        let mut claims = BTreeMap::<PartyKey, Claim>::new();
        for claim in self.read_all(filters, |event| Claim::read(event).ok()).await? {
            // Of two made in the same second none is the newer: the first that was read stays.
            let newer = claims.get(&claim.arbiter).is_none_or(|known| known.at < claim.at);
            if newer && claim.at <= latest {
                claims.insert(claim.arbiter, claim);
            }
        }
        Ok(claims)
    }

    /// Ratings of these arbiters that anybody can check.
    async fn ratings_of(&self, keys: &[PartyKey], tip: Height) -> Result<Vec<Rating>, DeskError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let filter = Filter {
            kinds: Some(vec![kind::ARBITER_RATING]),
            tags: BTreeMap::from([(b'p', keys.iter().map(|key| hex32(&key.0)).collect())]),
            limit: Some(EVENTS_MAX),
            ..Filter::default()
        };
        let ratings = self.read_all(vec![filter], |event| reputation::read(event, tip).ok()).await?;
        Ok(reputation::each_once(ratings).0)
    }

    /// What `read` makes of the events that boards answer with, each once: a forged copy does not keep the real one out.
    async fn read_all<T>(&self, filters: Vec<Filter>, read: impl Fn(&Event) -> Option<T>) -> Result<Vec<T>, DeskError> {
        let answers = BoardLink::ask_all(&self.boards, filters).await?;
        Ok(tokio::task::block_in_place(|| {
            let (mut all, mut ids) = (Vec::new(), BTreeSet::new());
            for event in answers.into_iter().flat_map(|(_, events)| events).take(READ_MAX) {
                if !ids.contains(&event.id)
                    && let Some(one) = read(&event)
                {
                    ids.insert(event.id);
                    all.push(one);
                }
            }
            all
        }))
    }
}

fn view(
    key: PartyKey,
    named: &BTreeMap<PartyKey, usize>,
    claims: &BTreeMap<PartyKey, Claim>,
    ratings: &[Rating],
    seen: Option<&SeenView>,
) -> ArbiterView {
    let of_it: Vec<_> = ratings.iter().filter(|rating| rating.subject == Subject::Arbiter(key)).collect();
    let claim = claims.get(&key);
    // What a claim could not know of yet does not speak against it.
    let before = |rating: &&&Rating| claim.is_some_and(|claim| rating.at <= claim.at);
    let attested_before = escrows(of_it.iter().filter(before).copied());
    ArbiterView {
        key,
        listings: named.get(&key).copied().unwrap_or(0),
        contradicted: claim.is_some_and(|claim| attested_before > claim.service.appointed),
        claim: claim.map(ClaimView::of),
        attested: attested(&of_it),
        seen: seen.cloned(),
    }
}

/// How many different payments ratings stand on.
fn escrows<'a>(ratings: impl Iterator<Item = &'a Rating>) -> u64 {
    ratings.map(|rating| rating.hash.0).collect::<BTreeSet<_>>().len() as u64
}

fn attested(ratings: &[&Rating]) -> AttestedView {
    let score = Score::of(ratings.iter().copied());
    let two = |number: f64| (number * 100.0).round() / 100.0;
    let ruled = ratings.iter().filter(|rating| rating.disputed).copied();
    AttestedView {
        escrows: escrows(ratings.iter().copied()),
        ruled: escrows(ruled),
        raters: score.raters,
        score: score.rating().map(two),
        value_sat: score.value,
    }
}
