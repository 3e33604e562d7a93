//! The listings that are here and a sum of the words of each, in memory: 112 bytes a listing, gathered anew at each start.
//!
//! A search goes over all of them, newest first, and looks at the text of those whose sum says that they may match. Rows for
//! every word in the index on disk would take more room than the listings themselves.

use std::collections::BinaryHeap;
use std::sync::{Arc, PoisonError, RwLock};

use wire::Filter;

use super::index::{By, Range, Row};
use super::logstore::Inner;
use super::{Encoded, Known, StoreError};
use crate::search::{self, Sum};

/// Listings in a block; full blocks are shared with those who search.
const BLOCK: usize = 4096;
/// Most listings that are searched: the ones that came first go first.
const LISTINGS_MAX: usize = 2_000_000;
/// What it costs to go over so many listings, in rows of an index.
const PER_ROW: usize = 32;
/// Rows that are read at once when the listings are gathered.
const GATHER: usize = 10_000;

/// A listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listing {
    age: u64,
    pub(crate) id: [u8; 32],
    kind: u16,
}

impl Listing {
    /// Its place in the order of rows, behind every row of its own.
    pub(crate) fn row(&self) -> Row {
        Row { age: self.age, id: self.first(), at: u64::MAX, kind: self.kind, len: 0, mark: 0 }
    }

    fn first(&self) -> u64 {
        u64::from_be_bytes(self.id[..8].try_into().expect("eight bytes"))
    }
}

/// Sums apart from the rest: a search reads only these of most listings.
#[derive(Clone, Debug, Default)]
struct Block {
    sums: Vec<Sum>,
    heads: Vec<Listing>,
}

/// All listings.
#[derive(Debug, Default)]
pub(crate) struct Listings(RwLock<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    blocks: Vec<Arc<Block>>,
    /// The next block to be pruned.
    next: usize,
}

/// What of the listings is wanted.
pub(crate) struct Page<'a> {
    pub(crate) sum: &'a Sum,
    pub(crate) filter: &'a Filter,
    /// Only what comes behind this.
    pub(crate) after: Option<Row>,
    /// At most so many.
    pub(crate) want: usize,
}

impl Page<'_> {
    fn wants(&self, listing: &Listing) -> bool {
        let at = u64::MAX - listing.age;
        self.filter.since.is_none_or(|since| at >= since.0)
            && self.filter.until.is_none_or(|until| at <= until.0)
            && self.filter.kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&listing.kind).is_ok())
            && self.after.is_none_or(|after| (listing.age, listing.first()) > (after.age, after.id))
    }
}

impl Listings {
    /// Adds an event, if it is a listing with any words.
    pub(crate) fn add(&self, event: &Encoded) {
        if !search::listed(event.kind) {
            return;
        }
        let Ok(raw) = event.raw() else { return };
        let words = search::words(&raw);
        if words.is_empty() {
            return;
        }
        let listing = Listing { age: u64::MAX - event.created_at.0, id: event.id, kind: event.kind };
        let blocks = &mut self.0.write().unwrap_or_else(PoisonError::into_inner).blocks;
        if blocks.last().is_none_or(|block| block.heads.len() >= BLOCK) {
            if blocks.len() * BLOCK >= LISTINGS_MAX {
                blocks.remove(0);
            }
            blocks.push(Arc::default());
        }
        if let Some(last) = blocks.last_mut() {
            let block = Arc::make_mut(last);
            block.sums.push(Sum::of(&words));
            block.heads.push(listing);
        }
    }

    /// The newest listings of a page that may match, newest first, and what it cost to find them, in rows.
    pub(crate) fn page(&self, page: &Page<'_>) -> (Vec<Listing>, usize) {
        let blocks = self.0.read().unwrap_or_else(PoisonError::into_inner).blocks.clone();
        let mut newest: BinaryHeap<Listing> = BinaryHeap::with_capacity(page.want + 1);
        let mut looked = 0;
        for block in &blocks {
            looked += block.sums.len();
            for (i, _) in block.sums.iter().enumerate().filter(|(_, sum)| sum.covers(page.sum)) {
                let listing = block.heads[i];
                let late = newest.len() >= page.want && newest.peek().is_some_and(|oldest| listing > *oldest);
                if !late && page.wants(&listing) {
                    newest.push(listing);
                    if newest.len() > page.want {
                        newest.pop();
                    }
                }
            }
        }
        (newest.into_sorted_vec(), looked / PER_ROW)
    }

    /// Forgets those of one block that are not served any more.
    fn prune(&self, served: impl Fn(&[u8; 32]) -> Result<bool, StoreError>) -> Result<(), StoreError> {
        let (at, block) = {
            let blocks = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let at = blocks.next.checked_rem(blocks.blocks.len()).unwrap_or(0);
            let Some(block) = blocks.blocks.get(at) else { return Ok(()) };
            (at, block.clone())
        };
        let mut kept = Block::default();
        for (sum, listing) in block.sums.iter().zip(&block.heads) {
            if served(&listing.id)? {
                kept.sums.push(*sum);
                kept.heads.push(*listing);
            }
        }
        let mut blocks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Only the writer's thread adds and prunes, so the block is still what it was.
        match blocks.blocks.get_mut(at) {
            Some(place) if kept.heads.is_empty() && place.heads.len() >= BLOCK => drop(blocks.blocks.remove(at)),
            Some(place) => *place = Arc::new(kept),
            None => {}
        }
        blocks.next = at + 1;
        Ok(())
    }

    /// Listings that are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap().blocks.iter().map(|block| block.heads.len()).sum()
    }
}

impl Inner {
    /// Adds all listings that are here. What a damaged index does not lead to is not found until it was built anew.
    pub(crate) fn gather_listings(&self) {
        for kind in search::KINDS {
            if let Err(why) = self.gather_kind(kind) {
                self.index_failed(&why);
            }
        }
    }

    fn gather_kind(&self, kind: u16) -> Result<(), StoreError> {
        let prefix = kind.to_be_bytes();
        let (mut after, mut more) = (None, true);
        while more {
            let mut rows = Vec::new();
            let range = Range { by: By::Kind, prefix: &prefix, first: 0, last: u64::MAX, after };
            more = self.index.view().scan(&range, GATHER, |row| rows.push(row))?;
            for row in &rows {
                if let Ok(event) = self.log.event(row.place()) {
                    self.listings.add(&event);
                }
            }
            after = rows.last().copied();
        }
        Ok(())
    }

    /// Forgets listings that are not served any more, some of them at a time.
    pub(crate) fn prune_listings(&self) -> Result<(), StoreError> {
        let view = self.index.view();
        self.listings.prune(|id| Ok(view.holding(id)?.is_some_and(|holding| holding.state == Known::Served)))
    }
}

#[cfg(test)]
mod tests {
    use units::Unix;
    use wire::Event;

    use super::*;

    fn listing(n: u32, at: u64, title: &str) -> Encoded {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let tags = vec![vec!["title".into(), title.into()]];
        let (pubkey, content, sig) = ([1; 32], String::new(), [0; 64]);
        Encoded::of(&Event { id, pubkey, created_at: Unix(at), kind: 30_402, tags, content, sig })
    }

    fn pages(listings: &Listings, word: &str, want: usize) -> Vec<[u8; 32]> {
        let (sum, filter) = (Sum::of(&[word.to_owned()]), Filter::default());
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (found, _) = listings.page(&Page { sum: &sum, filter: &filter, after, want });
            all.extend(found.iter().map(|listing| listing.id));
            match found.last() {
                Some(last) if found.len() == want => after = Some(last.row()),
                _ => return all,
            }
        }
    }

    #[test]
    fn pages_go_over_all_blocks_newest_first_and_what_is_gone_is_forgotten() {
        let listings = Listings::default();
        let lamps: Vec<Encoded> = (0..6000).map(|n| listing(n, 1000 + u64::from(n % 700), "lamp")).collect();
        for (n, lamp) in lamps.iter().enumerate() {
            listings.add(lamp);
            listings.add(&listing(10_000 + n as u32, 500, "chair"));
        }
        let mut expected: Vec<&Encoded> = lamps.iter().collect();
        expected.sort_by_key(|lamp| (u64::MAX - lamp.created_at.0, lamp.id));
        let expected: Vec<[u8; 32]> = expected.iter().map(|lamp| lamp.id).collect();
        for want in [7, 256, 10_000] {
            assert_eq!(pages(&listings, "lamp", want), expected, "{want} a page");
        }
        assert_eq!(listings.len(), 12_000);
        for _ in 0..3 {
            listings.prune(|id| Ok(id[..4] < 10_000u32.to_be_bytes()[..])).unwrap();
        }
        assert_eq!((listings.len(), pages(&listings, "lamp", 256)), (6000, expected));
    }
}
