//! Reading more from a board than it sends at once: page by page, newest first, up to a stated total.

use std::collections::BTreeSet;

use futures::future::join_all;
use units::Unix;
use wire::event::Event;
use wire::filter::Filter;

use crate::api::types::LeftOut;
use crate::board_link::{BoardError, BoardLink, answered};

/// Most events that are read of one board for one filter.
const EVENTS_MAX: usize = 20_000;
/// Most bytes of their contents.
const BYTES_MAX: usize = 16 << 20;
/// Events that a page asks for. A board may send fewer at once.
const PAGE_EVENTS: u64 = 1_000;
/// Most pages: a board that sends little at once does not keep us for ever.
const PAGES_MAX: usize = 400;
/// Every board sends at least so many events at once, as far as there are so many.
const LEAST_AT_ONCE: usize = 100;

/// Why a board has more than was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// There are more than we read.
    TooMany,
    /// Of one second there are more than the board sends at once.
    Crowded,
    /// It stopped answering.
    Silent,
}

impl Cut {
    fn in_words(self) -> String {
        match self {
            Cut::TooMany => format!("it has more than is read of one board ({EVENTS_MAX}): the oldest are left out"),
            Cut::Crowded => "of one second it has more than it sends at once: some of those may be missing".to_owned(),
            Cut::Silent => "it stopped answering: older ones are missing".to_owned(),
        }
    }
}

/// What was read of each board that answered, by its address, newest first, and where there is more. Boards that do not answer are left
/// out while one does.
pub(crate) async fn read_all<'a>(
    links: impl IntoIterator<Item = &'a BoardLink>,
    filter: &Filter,
) -> Result<(Vec<(&'a str, Vec<Event>)>, Vec<LeftOut>), BoardError> {
    let one = |link: &'a BoardLink| async move { (link.url(), read(link, filter).await) };
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for (board, (events, cut)) in answered(join_all(links.into_iter().map(one)).await)? {
        found.push((board, events));
        left_out.extend(cut.map(|cut| LeftOut { board: board.to_owned(), why: cut.in_words() }));
    }
    Ok((found, left_out))
}

/// Everything that one board has, as far as it may be read.
async fn read(link: &BoardLink, filter: &Filter) -> Result<(Vec<Event>, Option<Cut>), BoardError> {
    let mut reading = Reading::default();
    link.soon().await;
    while let Some(until) = reading.next() {
        let page = Filter { until, limit: Some(PAGE_EVENTS), ..filter.clone() };
        match link.query(vec![page.clone()]).await {
            // A board may send what nobody asked for.
            Ok(events) => reading.add(events.into_iter().filter(|event| page.matches(event)).collect()),
            Err(error) if reading.pages == 0 => return Err(error),
            Err(_) => reading.ends(Some(Cut::Silent)),
        }
    }
    Ok((reading.events, reading.cut))
}

/// How far the reading of one board has come.
#[derive(Default)]
struct Reading {
    events: Vec<Event>,
    known: BTreeSet<[u8; 32]>,
    bytes: usize,
    pages: usize,
    /// Events of the largest page: so many the board sends at once.
    largest: usize,
    /// The next page is of what was made not after this.
    until: Option<Unix>,
    ended: bool,
    cut: Option<Cut>,
}

impl Reading {
    /// Until when the next page is; none when there is none.
    #[allow(clippy::option_option, reason = "the first page has no bound")]
    fn next(&self) -> Option<Option<Unix>> {
        (!self.ended).then_some(self.until)
    }

    fn ends(&mut self, cut: Option<Cut>) {
        self.ended = true;
        self.cut = cut.or(self.cut);
    }

    fn add(&mut self, page: Vec<Event>) {
        let (size, oldest) = (page.len(), page.iter().map(|event| event.created_at).min());
        self.pages += 1;
        self.largest = self.largest.max(size);
        let before = self.events.len();
        for event in page {
            if self.known.insert(event.id) {
                self.bytes += event.content.len();
                self.events.push(event);
            }
            if self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
                self.events.pop();
                return self.ends(Some(Cut::TooMany));
            }
        }
        let Some(oldest) = oldest else { return self.ends(None) };
        if self.pages >= PAGES_MAX {
            return self.ends(Some(Cut::TooMany));
        }
        if self.events.len() > before {
            // That second once more: the page may have ended within it.
            self.until = Some(oldest);
        } else if size < self.largest {
            // The board could have sent more.
            self.ends(None);
        } else {
            // A page of one second that brings nothing new: whatever else is of that second cannot be asked for.
            if size >= LEAST_AT_ONCE {
                self.cut = Some(Cut::Crowded);
            }
            match oldest.0.checked_sub(1) {
                Some(earlier) => self.until = Some(Unix(earlier)),
                None => self.ends(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board with an event at each of these times, which sends at most `at_once`, newest first.
    fn read_of(times: &[u64], at_once: usize) -> (usize, Option<Cut>, usize) {
        let mut stored: Vec<Event> = times.iter().enumerate().map(|(number, at)| event(number, *at)).collect();
        stored.sort_by_key(|event| (std::cmp::Reverse(event.created_at), event.id));
        let mut reading = Reading::default();
        while let Some(until) = reading.next() {
            let of_page = stored.iter().filter(|event| until.is_none_or(|until| event.created_at <= until));
            reading.add(of_page.take(at_once).cloned().collect());
        }
        let distinct: BTreeSet<_> = reading.events.iter().map(|event| event.id).collect();
        assert_eq!(distinct.len(), reading.events.len(), "each once");
        (reading.events.len(), reading.cut, reading.pages)
    }

    fn event(number: usize, at: u64) -> Event {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let (pubkey, sig) = ([1; 32], [2; 64]);
        Event { id, pubkey, created_at: Unix(at), kind: 300, tags: Vec::new(), content: String::new(), sig }
    }

    #[test]
    fn every_page_is_read_and_ties_at_their_ends_are_not_lost() {
        assert_eq!(read_of(&[], 500), (0, None, 1));
        assert_eq!(read_of(&[9, 8, 7], 500), (3, None, 2));
        // Three to a second, and pages that end within a second.
        let times: Vec<u64> = (0..10_000).map(|number| 1_000 + number / 3).collect();
        let (events, cut, pages) = read_of(&times, 500);
        assert_eq!((events, cut), (10_000, None));
        assert!(pages < 25, "{pages}");
        // As many in a second as a page has, less one.
        assert_eq!(read_of(&[vec![5; 499], vec![4; 499], vec![3; 2]].concat(), 500).0, 1_000);
    }

    #[test]
    fn a_second_with_more_than_a_page_is_told_and_what_is_older_is_read() {
        let (events, cut, _) = read_of(&[vec![9; 700], vec![8; 10]].concat(), 500);
        assert_eq!((events, cut), (510, Some(Cut::Crowded)));
        // Three of one second are no crowd.
        assert_eq!(read_of(&[9, 9, 9], 500).1, None);
    }

    #[test]
    fn reading_ends_at_the_total_and_says_so() {
        let times: Vec<u64> = (0..EVENTS_MAX as u64 + 1).collect();
        let (events, cut, _) = read_of(&times, 500);
        assert_eq!((events, cut), (EVENTS_MAX, Some(Cut::TooMany)));
        assert_eq!(read_of(&times[..EVENTS_MAX], 500).1, None);
    }

    #[test]
    fn a_board_that_sends_one_at_a_time_does_not_keep_us_for_ever() {
        let times: Vec<u64> = (0..10_000).collect();
        let (_, cut, pages) = read_of(&times, 1);
        assert_eq!((cut, pages), (Some(Cut::TooMany), PAGES_MAX));
    }
}
