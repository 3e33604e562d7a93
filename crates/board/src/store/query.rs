//! Answers a question: each filter becomes a few ranges of one index, all ranges are merged newest first, in turns.
//!
//! Nothing is held but the rows that were read ahead: whoever looks at the indexes keeps the writer waiting, and all others behind
//! it, so that nobody looks for long at a time. When something was removed from the indexes meanwhile, those rows are read anew,
//! so that a paused answer does not serve what is gone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use units::Unix;
use wire::{Filter, RawEvent};

use super::index::{By, Holding, Range, Row, Short, mark};
use super::listings::Page;
use super::logstore::{Found, Inner};
use super::{Ask, Budget, Cursor, Encoded, Facts, Item, Known, Sink, StoreError, disk, tag_key};
use crate::search::{Search, Sum};

/// Most rows that a range reads ahead at first; doubled each time up to [`AHEAD_MAX`].
const AHEAD: usize = 128;
/// Most rows that a range reads ahead.
const AHEAD_MAX: usize = 256;
/// Above so many pairs of author and kind it is cheaper to go through the authors.
const PAIRS_MAX: usize = 1000;
/// Up to so many pairs of author and kind are taken before tags are looked at.
const PAIRS_FEW: usize = 8;
/// For each of the ranges that many authors make, so many of the newest rows of their kinds are looked at before.
const WALK: usize = 8;
/// Rows of a kind that are looked at at first when it is gone through for its authors.
const WALK_AHEAD: usize = 128;

/// So many ids are looked for before the writer may add something.
const IDS_AT_ONCE: usize = 64;

/// So many rows of a set are looked at before other threads may have the processor: a set of thousands takes milliseconds.
const YIELD_EVERY: usize = 1000;

/// What it costs to look for the start of a range, in rows.
const SEEK: usize = 20;

/// What the keys of a range begin with: an author and a kind at most. Thousands of them are to cost no memory of their own.
type Prefix = Short<34>;

/// What one range goes over.
enum Over {
    /// Rows of an index under a prefix, with ages from `first` to `last`.
    Rows { by: By, prefix: Prefix, first: u64, last: u64 },
    /// These ids.
    Ids(Vec<[u8; 32]>),
    /// Listings that may hold the words of this sum.
    Listings(Sum),
}

/// One range of one filter.
struct Scan {
    over: Over,
    /// Whatever stands in it has the tags that the filter wants.
    tagged: bool,
    filter: usize,
    ahead: VecDeque<Row>,
    want: usize,
    /// The last row that was read ahead.
    read: Option<Row>,
    more: bool,
    /// What [`Inner::removals`] said before the rows that are ahead were read.
    fed: u64,
}

struct Wanted {
    filter: Filter,
    search: Option<Search>,
    left: u64,
    /// Rows that may still be looked at to find its authors among all of its kinds.
    walk: usize,
    /// The last row that was looked at.
    reached: Option<Row>,
    /// Position that was counted last: several ranges of a filter may lead to one event.
    counted: Option<u64>,
}

impl Wanted {
    /// Tags and words of an event are those that are wanted.
    fn matches_text(&self, event: &RawEvent<'_>) -> bool {
        self.filter.matches_raw(event) && self.search.as_ref().is_none_or(|search| search.matches(event))
    }
}

/// The event that was looked at last.
struct Last {
    at: u64,
    found: Found,
    /// It was given out.
    given: bool,
}

/// An answer in the making.
pub(crate) struct LogCursor {
    inner: Arc<Inner>,
    ask: Ask,
    wanted: Vec<Wanted>,
    scans: Vec<Scan>,
    heads: BinaryHeap<Reverse<(Row, usize)>>,
    /// Ranges whose next row is not known yet.
    hungry: Vec<usize>,
    last: Option<Last>,
    /// Room for an event that is read.
    room: Encoded,
}

/// What stands in such a range has the tags that `filter` wants: nobody has to look at the event's text.
fn tagged(filter: &Filter, over: &Over) -> bool {
    match over {
        Over::Rows { by: By::Tag, .. } => filter.tags.len() == 1,
        _ => filter.tags.is_empty(),
    }
}

/// Least and greatest age of what `filter` can match.
fn ages(filter: &Filter) -> (u64, u64) {
    let first = u64::MAX - filter.until.map_or(u64::MAX, |until| until.0);
    let last = u64::MAX - filter.since.map_or(0, |since| since.0);
    (first, last)
}

/// The ranges that together hold everything that `filter` can match.
fn plan(filter: &Filter) -> Vec<Over> {
    if filter.is_empty() {
        return Vec::new();
    }
    if let Some(ids) = &filter.ids {
        return vec![Over::Ids(ids.clone())];
    }
    let (first, last) = ages(filter);
    let rows = |by, prefix: &[&[u8]]| Over::Rows { by, prefix: Prefix::of(prefix), first, last };
    let authors = filter.authors.as_deref().unwrap_or_default();
    let kinds = filter.kinds.as_deref().unwrap_or_default();
    let pairs = || {
        let pair = move |a: &[u8; 32], k: &u16| rows(By::AuthorKind, &[a, &k.to_be_bytes()]);
        authors.iter().flat_map(move |a| kinds.iter().map(move |k| pair(a, k)))
    };
    let tags = filter.tags.iter().min_by_key(|(_, values)| values.len());
    match (authors.len(), kinds.len(), tags) {
        (1.., 1.., _) if authors.len() * kinds.len() <= PAIRS_FEW => pairs().collect(),
        (_, _, Some((letter, values))) => values.iter().map(|v| rows(By::Tag, &[&tag_key(*letter, v)])).collect(),
        (1.., 1.., None) if authors.len() * kinds.len() <= PAIRS_MAX => pairs().collect(),
        (1.., _, None) => authors.iter().map(|author| rows(By::Author, &[author])).collect(),
        (0, 1.., None) => of_kinds(filter),
        (0, 0, None) => vec![rows(By::Created, &[])],
    }
}

/// Everything of the kinds that `filter` names.
fn of_kinds(filter: &Filter) -> Vec<Over> {
    let (first, last) = ages(filter);
    let rows = |kind: &u16| Over::Rows { by: By::Kind, prefix: Prefix::of(&[&kind.to_be_bytes()]), first, last };
    filter.kinds.iter().flatten().map(rows).collect()
}

/// So many rows of its kinds may be looked at for the authors of `filter`, of which `left` events are wanted: where they write much
/// of what is new, that finds them sooner than a look into the rows of each. 0 where that cannot be.
fn walk(filter: &Filter, ranges: usize, left: u64) -> usize {
    let Filter { ids: None, authors: Some(_), kinds: Some(_), .. } = filter else { return 0 };
    let rows = WALK * ranges;
    if ranges > PAIRS_FEW && filter.tags.is_empty() && left.saturating_mul(2) <= rows as u64 { rows } else { 0 }
}

impl LogCursor {
    pub(crate) fn new(inner: Arc<Inner>, mut ask: Ask) -> LogCursor {
        let filters = std::mem::take(&mut ask.filters);
        let (wanted, scans, hungry) = (Vec::with_capacity(filters.len()), Vec::new(), Vec::new());
        let (heads, last, room) = (BinaryHeap::new(), None, Encoded::default());
        let mut cursor = LogCursor { inner, ask, wanted, scans, heads, hungry, last, room };
        filters.into_iter().for_each(|filter| cursor.want(filter));
        cursor
    }

    /// Adds what one filter wants.
    fn want(&mut self, filter: Filter) {
        let left = filter.limit.unwrap_or(self.ask.limit_max).min(self.ask.limit_max);
        let search = Search::of(&filter);
        let mut ranges = match &search {
            _ if left == 0 => Vec::new(),
            Some(Search::Nothing) => Vec::new(),
            Some(Search::Words(words)) if filter.ids.is_none() && !filter.is_empty() => {
                vec![Over::Listings(Sum::of(words))]
            }
            Some(Search::Words(_) | Search::Anything) | None => plan(&filter),
        };
        let walk = walk(&filter, ranges.len(), left);
        if walk > 0 {
            ranges = of_kinds(&filter);
        }
        self.wanted.push(Wanted { filter, search, left, walk, reached: None, counted: None });
        self.add(self.wanted.len() - 1, ranges);
    }

    /// Goes over `ranges` for a filter, behind what it has reached.
    fn add(&mut self, filter: usize, ranges: Vec<Over>) {
        let Wanted { filter: wanted, search, left, walk, reached, .. } = &self.wanted[filter];
        let left = usize::try_from(*left).unwrap_or(usize::MAX);
        // To look for the start of a range again costs more than a few rows in vain.
        let share = left.saturating_mul(3) / (2 * ranges.len().max(1));
        let want = if *walk > 0 { WALK_AHEAD.min(*walk) } else { share.clamp(2, AHEAD).min(left) };
        self.hungry.extend(self.scans.len()..self.scans.len() + ranges.len());
        self.scans.extend(ranges.into_iter().map(|over| Scan {
            tagged: search.is_none() && tagged(wanted, &over),
            over,
            filter,
            ahead: VecDeque::new(),
            want,
            read: *reached,
            more: true,
            fed: 0,
        }));
    }

    /// The authors of a filter are rare among all events of their kinds: goes over the rows of each of them instead.
    fn step_aside(&mut self, filter: usize) {
        self.heads.retain(|Reverse((_, i))| self.scans[*i].filter != filter);
        self.hungry.retain(|i| self.scans[*i].filter != filter);
        for scan in self.scans.iter_mut().filter(|scan| scan.filter == filter) {
            scan.ahead.clear();
            scan.more = false;
        }
        self.wanted[filter].walk = 0;
        self.add(filter, plan(&self.wanted[filter].filter));
    }

    /// Reads a range ahead. Gives what it cost, in rows.
    fn feed(&mut self, i: usize) -> Result<usize, StoreError> {
        let scan = &mut self.scans[i];
        // Asked before one looks: a removal in between makes us ask once too often what became of an event, never once too seldom.
        scan.fed = self.inner.removals();
        let wanted = &self.wanted[scan.filter];
        let mut looked = SEEK;
        match &scan.over {
            Over::Ids(ids) => {
                let mut rows = Vec::with_capacity(ids.len());
                for ids in ids.chunks(IDS_AT_ONCE) {
                    let holdings = self.inner.holdings(ids.iter())?;
                    for (id, holding) in std::iter::zip(ids, holdings) {
                        rows.extend(self.inner.row_of(id, holding)?);
                    }
                }
                looked += ids.len();
                scan.more = false;
                rows.sort_unstable();
                scan.ahead.extend(rows.into_iter().filter(|row| wanted.reached.is_none_or(|reached| *row > reached)));
            }
            Over::Listings(sum) => {
                let page = Page { sum, filter: &wanted.filter, after: scan.read, want: AHEAD_MAX };
                let (found, cost) = self.inner.listings.page(&page);
                looked += cost + found.len();
                let more = found.len() == AHEAD_MAX;
                for found in found.chunks(IDS_AT_ONCE) {
                    let holdings = self.inner.holdings(found.iter().map(|listing| &listing.id))?;
                    for (listing, holding) in std::iter::zip(found, holdings) {
                        scan.read = Some(listing.row());
                        let served = holding.filter(|holding| holding.state == Known::Served);
                        scan.ahead.extend(served.map(|holding| holding.row(&listing.id)));
                    }
                }
                scan.more = more;
            }
            Over::Rows { .. } => looked += self.feed_rows(i)?,
        }
        self.queue(i);
        Ok(looked)
    }

    /// Reads a range of an index ahead. Gives how many rows it looked at.
    fn feed_rows(&mut self, i: usize) -> Result<usize, StoreError> {
        let Scan { over, filter, ahead, want, read, more, .. } = &mut self.scans[i];
        let Over::Rows { by, prefix, first, last } = over else { return Ok(0) };
        let range = Range { by: *by, prefix: prefix.bytes(), first: *first, last: *last, after: *read };
        let wanted = &mut self.wanted[*filter];
        let Filter { authors, kinds, .. } = &wanted.filter;
        let authors = authors.as_ref().filter(|_| *by == By::Kind);
        if authors.is_some() && wanted.walk == 0 {
            // What was found last had the marks of its authors only.
            let filter = *filter;
            self.step_aside(filter);
            return Ok(0);
        }
        let mut rows = 0;
        *more = self.inner.index.view().scan(&range, *want, |row| {
            rows += 1;
            *read = Some(row);
            if kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&row.kind).is_ok())
                && authors.is_none_or(|authors| authors.binary_search_by_key(&row.mark, mark).is_ok())
            {
                ahead.push_back(row);
            }
        })?;
        *want = (*want * 2).min(AHEAD_MAX);
        if authors.is_some() && *more {
            wanted.walk = wanted.walk.saturating_sub(rows);
            // Twice what all kinds will bring if they go on like this one.
            let kinds = kinds.as_ref().map_or(1, Vec::len);
            let hope = 2 * kinds * ahead.len() * wanted.walk / rows.max(1);
            if ((ahead.len() + hope) as u64) < wanted.left {
                let filter = *filter;
                self.step_aside(filter);
            }
        }
        Ok(rows)
    }

    /// Puts the next row of a range into the merge, or notes that it has to be read.
    fn queue(&mut self, i: usize) {
        match self.scans[i].ahead.front() {
            Some(row) => self.heads.push(Reverse((*row, i))),
            None if self.scans[i].more => self.hungry.push(i),
            None => {}
        }
    }

    /// Looks at one row. Gives the event if it is to be given out now.
    fn consider(&mut self, row: &Row, scan: usize, now: Unix) -> Result<Option<&Encoded>, StoreError> {
        let Scan { filter, tagged, fed, ref over, .. } = self.scans[scan];
        let wanted = &mut self.wanted[filter];
        if row.at >= self.ask.before || wanted.counted == Some(row.at) {
            return Ok(None);
        }
        if self.last.as_ref().is_none_or(|last| last.at != row.at) {
            // Whatever comes of it, there is another event in the room then.
            self.last = None;
            let found = self.inner.event(row.place(), &mut self.room)?;
            self.last = Some(Last { at: row.at, found, given: false });
        }
        let Some(Last { found, given, .. }) = &mut self.last else { return Ok(None) };
        let Some(event) = found.event(&self.room) else { return Ok(None) };
        let served = !event.expired(now)
            && wanted.filter.matches_head(&event.id, &event.pubkey, event.kind, event.created_at)
            && (tagged || event.raw().is_ok_and(|raw| wanted.matches_text(&raw)))
            && self.ask.reader.may_read(event);
        if !served || (fed != self.inner.removals() && self.inner.is_gone(&event.id, over)?) {
            return Ok(None);
        }
        wanted.counted = Some(row.at);
        wanted.left -= 1;
        let before = std::mem::replace(given, true);
        Ok((!before).then_some(event))
    }

    /// What [`Cursor::advance`] does, but stops with an error where it would have to wait and may not: all is as it was before then.
    fn go_on(&mut self, now: Unix, budget: Budget, out: &mut dyn Sink) -> Result<bool, StoreError> {
        let (mut rows, mut bytes) = (0, 0);
        loop {
            while let Some(i) = self.hungry.pop() {
                if rows >= budget.rows {
                    self.hungry.push(i);
                    return Ok(false);
                }
                if self.wanted[self.scans[i].filter].left > 0 {
                    rows += self.feed(i).inspect_err(|_| self.queue(i))?;
                }
            }
            if rows >= budget.rows || bytes >= budget.bytes {
                return Ok(self.heads.is_empty());
            }
            let Some(Reverse((row, i))) = self.heads.peek().copied() else { return Ok(true) };
            rows += 1;
            let filter = self.scans[i].filter;
            if self.wanted[filter].left == 0 {
                self.heads.pop();
                continue;
            }
            if let Some(event) = self.consider(&row, i, now)? {
                out.take(event);
            }
            // Whether it was given out or not: nearly all have to be read.
            bytes += row.len as usize;
            self.heads.pop();
            self.scans[i].ahead.pop_front();
            self.wanted[filter].reached = Some(row);
            self.queue(i);
        }
    }
}

impl Cursor for LogCursor {
    fn advance(&mut self, now: Unix, budget: Budget, out: &mut dyn Sink) -> Result<bool, StoreError> {
        match disk::reading(budget.disk, || self.go_on(now, budget, out)) {
            Err(why) if why.is_wait() => Ok(false),
            Err(why) => {
                self.inner.index_failed(&why);
                Err(why)
            }
            done => done,
        }
    }
}

impl Inner {
    /// An event that was found by `over` has been removed from the indexes since.
    fn is_gone(&self, id: &[u8; 32], over: &Over) -> Result<bool, StoreError> {
        let holding = self.index.view().holding(id)?;
        match over {
            Over::Ids(_) => Ok(self.row_of(id, holding)?.is_none()),
            _ => Ok(holding.is_none_or(|holding| holding.state != Known::Served)),
        }
    }

    /// What is known of some ids, at most [`IDS_AT_ONCE`] of them.
    fn holdings<'a>(&self, ids: impl Iterator<Item = &'a [u8; 32]>) -> Result<Vec<Option<Holding>>, StoreError> {
        let view = self.index.view();
        ids.map(|id| view.holding(id)).collect()
    }

    /// The row of an id that is served, or of an older version: those stay to be had by id.
    fn row_of(&self, id: &[u8; 32], holding: Option<Holding>) -> Result<Option<Row>, StoreError> {
        let Some(holding) = holding else { return Ok(None) };
        match holding.state {
            Known::Served => Ok(Some(holding.row(id))),
            Known::Superseded => {
                let mut room = Encoded::default();
                let found = self.event(holding.place, &mut room)?;
                let Some(event) = found.event(&room) else { return Ok(None) };
                let Ok(raw) = event.raw() else { return Ok(None) };
                let Some(address) = Facts::of(&raw).address else { return Ok(None) };
                let view = self.index.view();
                let deleted = view.gone_until(&address)?.max(view.vanished_until(&event.pubkey)?);
                let gone = deleted.is_some_and(|until| event.created_at.0 <= until);
                Ok((!gone).then(|| holding.row(id)))
            }
            Known::Deleted | Known::Expired | Known::TakenDown => Ok(None),
        }
    }
}

/// What is reconciled of events.
struct Items(Vec<Item>);

impl Sink for Items {
    fn take(&mut self, event: &Encoded) {
        self.0.push((event.created_at, event.id));
    }
}

/// See [`super::Store::items`].
pub(crate) fn items(inner: &Arc<Inner>, ask: Ask, now: Unix, max: usize) -> Result<Option<Vec<Item>>, StoreError> {
    match &ask.filters[..] {
        [filter] if by_index_alone(filter) => items_of_index(inner, &ask, filter, now, max),
        _ => items_of_events(LogCursor::new(inner.clone(), Ask { limit_max: max as u64 + 1, ..ask }), now, max),
    }
}

/// The keys of the indexes say everything that `filter` asks for.
fn by_index_alone(filter: &Filter) -> bool {
    let Filter { ids, authors, kinds: _, tags, since: _, until: _, limit, search } = filter;
    ids.is_none() && authors.is_none() && tags.is_empty() && limit.is_none() && search.is_none() && !filter.is_empty()
}

fn items_of_events(mut cursor: LogCursor, now: Unix, max: usize) -> Result<Option<Vec<Item>>, StoreError> {
    let mut items = Items(Vec::new());
    loop {
        let done = cursor.advance(now, Budget { rows: 2000, bytes: 1 << 20, disk: true }, &mut items)?;
        if items.0.len() > max {
            return Ok(None);
        }
        if done {
            return Ok(Some(items.0));
        }
    }
}

fn items_of_index(
    inner: &Arc<Inner>,
    ask: &Ask,
    filter: &Filter,
    now: Unix,
    max: usize,
) -> Result<Option<Vec<Item>>, StoreError> {
    let expired = inner.index.view().expired(now)?;
    let (first, last) = ages(filter);
    let prefixes: Vec<[u8; 2]> = filter.kinds.iter().flatten().map(|kind| kind.to_be_bytes()).collect();
    let mut ranges: Vec<Range<'_>> =
        prefixes.iter().map(|kind| Range { by: By::Kind, prefix: kind, first, last, after: None }).collect();
    if filter.kinds.is_none() {
        ranges.push(Range { by: By::Created, prefix: &[], first, last, after: None });
    }
    let (mut items, mut private) = (Vec::new(), Vec::new());
    let mut looked = 0_usize;
    for range in &ranges {
        inner.index.rows_and_ids(range, |row, id| {
            looked += 1;
            if looked.is_multiple_of(YIELD_EVERY) {
                std::thread::yield_now();
            }
            if row.at < ask.before && !expired.contains(&row.at) {
                if ask.reader.may_read_all(row.kind) {
                    items.push((Unix(u64::MAX - row.age), id));
                } else {
                    private.push(row.place());
                }
            }
            items.len() + private.len() <= max
        })?;
    }
    if items.len() + private.len() > max {
        return Ok(None);
    }
    let mut room = Encoded::default();
    for place in private {
        let found = inner.event(place, &mut room)?;
        let seen = found.event(&room).filter(|event| ask.reader.may_read(event));
        items.extend(seen.map(|event| (event.created_at, event.id)));
    }
    Ok(Some(items))
}
