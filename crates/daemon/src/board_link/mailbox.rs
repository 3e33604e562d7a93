//! One kind of mail on one connection to a board: standing subscriptions for what is new, some keys in each, and what the board has
//! stored, asked for once for each key. A key that comes later costs one subscription of some keys, and no second reading of what the
//! others have. Where some of it is done with, the board is told so and only names the rest (NIP-77), else it comes in pages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use board::reconcile::Broken;
use tokio::time::Instant;
use units::{Unix, hex32};
use wire::filter::Filter;
use wire::frame::ClientFrame;

use crate::mail_seen::{Gap, Seen};

/// Stored mail that fills a page: a board sends only so much at once, so when so much came there may be more behind it.
const PAGE_EVENTS: u64 = 100;
/// Most pages that are fetched one after the other.
const PAGES_MAX: u32 = 200;
/// Keys of one subscription. Boards let askers of many values wait.
const KEYS: usize = 200;
/// Most standing subscriptions; the last one takes the keys that are left.
const LIVE_MAX: usize = 24;
/// Subscriptions that have ended and whose last events may still be on their way.
const PAST_MAX: usize = 8;
/// Kinds of public trade steps (DOMP).
const FIRST_STEP: u16 = 301;
const LAST_STEP: u16 = 323;

pub(super) type Key = [u8; 32];

/// What is subscribed to: trade steps that anybody may read, and gift wraps that only their recipient gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MailKind {
    Steps,
    Wraps,
}

impl MailKind {
    fn kinds(self) -> Vec<u16> {
        match self {
            MailKind::Steps => (FIRST_STEP..=LAST_STEP).collect(),
            MailKind::Wraps => vec![wire::seal::KIND_GIFT_WRAP],
        }
    }
}

/// Names subscriptions of one connection: each has a name of its own, so that answers to an earlier one are known as such.
#[derive(Default)]
pub(super) struct Names(u64);

impl Names {
    pub(super) fn fresh(&mut self, what: &str) -> String {
        self.0 += 1;
        format!("{what}-{}", self.0)
    }
}

pub(super) struct Mailbox {
    kind: MailKind,
    /// Whose mail it is.
    keys: BTreeSet<Key>,
    live: Vec<Live>,
    /// Keys of all standing subscriptions.
    covered: BTreeSet<Key>,
    page: Option<Page>,
    talk: Option<Talk>,
    seen: Arc<Seen>,
    /// The board may know NIP-77.
    reconciles: bool,
    /// Keys whose stored mail has to be asked for.
    unread: BTreeSet<Key>,
    past: VecDeque<String>,
}

/// A standing subscription.
struct Live {
    name: String,
    keys: BTreeSet<Key>,
    /// The board has begun it.
    begun: bool,
    /// The one that it takes the place of, until it has begun: nothing falls between the two.
    former: Option<String>,
}

/// A page of stored mail that is being read.
struct Page {
    name: String,
    keys: BTreeSet<Key>,
    until: Option<Unix>,
    oldest: Option<Unix>,
    events: u64,
    number: u32,
    /// What a reconciliation found, when that is what is fetched.
    found: Option<Gap>,
}

/// A reconciliation: what is done with, against what the board has stored for these keys.
struct Talk {
    name: String,
    keys: BTreeSet<Key>,
    gap: Gap,
    /// Since when the board has not said a word; none once it did.
    unanswered: Option<Instant>,
}

impl Page {
    fn first(keys: BTreeSet<Key>) -> Page {
        Page { name: String::new(), keys, until: None, oldest: None, events: 0, number: 0, found: None }
    }
}

impl Mailbox {
    pub(super) fn new(kind: MailKind, seen: Arc<Seen>, reconciles: bool) -> Mailbox {
        let [keys, covered, unread] = [const { BTreeSet::new() }; 3];
        let (live, past) = (Vec::new(), VecDeque::new());
        Mailbox { kind, keys, live, covered, page: None, talk: None, seen, reconciles, unread, past }
    }

    /// It is the mail of these keys from now on. `again`: what is stored for them is wanted once more. Returns what to say to the board.
    pub(super) fn is_of(&mut self, keys: BTreeSet<Key>, again: bool, names: &mut Names) -> Vec<ClientFrame<'static>> {
        let known = std::mem::replace(&mut self.keys, keys);
        self.unread.extend(self.keys.iter().filter(|key| again || !known.contains(*key)));
        self.unread.retain(|key| self.keys.contains(key));
        self.go_on(names)
    }

    /// The board has sent what it had for a subscription. Returns what to say to it, if the subscription is one of ours.
    pub(super) fn ended(&mut self, name: &str, names: &mut Names) -> Option<Vec<ClientFrame<'static>>> {
        let mut frames = Vec::new();
        if let Some(live) = self.live.iter_mut().find(|live| live.name == name) {
            live.begun = true;
            if let Some(former) = live.former.take() {
                frames.push(self.close(former));
            }
        } else if let Some(page) = self.page.take_if(|page| page.name == name) {
            frames.extend(self.turn(page, names));
        } else {
            return None;
        }
        frames.extend(self.go_on(names));
        Some(frames)
    }

    /// The board will not have a subscription before it knows us: asked again when it does.
    pub(super) fn refused(&mut self, name: &str) {
        for live in self.live.extract_if(.., |live| live.name == name) {
            self.unread.extend(live.keys.intersection(&self.keys));
            self.covered.retain(|key| !live.keys.contains(key));
        }
        if let Some(page) = self.page.take_if(|page| page.name == name) {
            self.unread.extend(page.keys.iter().filter(|key| self.keys.contains(*key)));
        }
    }

    /// Is this the reconciliation that runs?
    pub(super) fn reconciles_as(&self, name: &str) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.name == name)
    }

    /// Has the board been silent on it for so long?
    pub(super) fn is_unanswered(&self, patience: Duration) -> bool {
        self.talk.as_ref().and_then(|talk| talk.unanswered).is_some_and(|since| since.elapsed() >= patience)
    }

    /// The board's word in the reconciliation. Returns what to say to it.
    pub(super) fn learn(&mut self, word: Result<&str, Broken>, names: &mut Names) -> Vec<ClientFrame<'static>> {
        let Some(mut talk) = self.talk.take() else { return Vec::new() };
        let told = word.and_then(|answer| talk.gap.learn(answer));
        match told {
            Ok(Some(message)) => {
                let next = ClientFrame::NegMsg { id: talk.name.clone().into(), message: message.into() };
                self.talk = Some(Talk { unanswered: None, ..talk });
                vec![next]
            }
            Ok(None) => {
                let mut frames = vec![ClientFrame::NegClose(talk.name.into())];
                frames.extend(self.fetch(talk.keys, talk.gap, names));
                frames.extend(self.go_on(names));
                frames
            }
            Err(why) => {
                tracing::debug!(why = %why.message, "mail is not reconciled: fetched in pages");
                vec![self.read(Page::first(talk.keys), names)]
            }
        }
    }

    /// The board does not know how to. Returns what to say to it instead.
    pub(super) fn cannot_reconcile(&mut self, names: &mut Names) -> Option<ClientFrame<'static>> {
        self.reconciles = false;
        let talk = self.talk.take()?;
        Some(self.read(Page::first(talk.keys), names))
    }

    /// An event came by this subscription. Is it mail?
    pub(super) fn takes(&mut self, name: &str, at: Unix) -> bool {
        if let Some(page) = self.page.as_mut().filter(|page| page.name == name) {
            page.events += 1;
            page.oldest = Some(page.oldest.map_or(at, |oldest| oldest.min(at)));
            return true;
        }
        self.is(name) || self.past.iter().any(|past| past == name)
    }

    /// Is this a subscription to this mail?
    pub(super) fn is(&self, name: &str) -> bool {
        let live = self.live.iter().any(|live| live.name == name || live.former.as_deref() == Some(name));
        live || self.page.as_ref().is_some_and(|page| page.name == name)
    }

    /// Everything that was stored has come.
    pub(super) fn is_read(&self) -> bool {
        let settled = !self.keys.is_empty() && self.keys == self.covered && self.live.iter().all(|live| live.begun);
        settled && self.page.is_none() && self.talk.is_none() && self.unread.is_empty()
    }

    fn go_on(&mut self, names: &mut Names) -> Vec<ClientFrame<'static>> {
        // One change at a time: the board has begun the last one before it hears of the next.
        if self.live.iter().any(|live| !live.begun) {
            return Vec::new();
        }
        if let Some(place) = self.to_change() {
            return self.change(place, names);
        }
        if self.page.is_some() || self.talk.is_some() || self.unread.is_empty() {
            return Vec::new();
        }
        // What comes while these are read comes by the standing subscriptions.
        let keys: BTreeSet<Key> = self.unread.iter().take(KEYS).copied().collect();
        self.unread.retain(|key| !keys.contains(key));
        vec![self.ask_for(keys, names)]
    }

    /// The standing subscription that has a key too many, or takes the next new ones; the one behind the last is yet to be made.
    fn to_change(&self) -> Option<usize> {
        if let Some(gone) = self.covered.difference(&self.keys).next() {
            return self.live.iter().position(|live| live.keys.contains(gone));
        }
        self.keys.difference(&self.covered).next()?;
        let room = self.live.iter().position(|live| live.keys.len() < KEYS);
        Some(room.unwrap_or(self.live.len().min(LIVE_MAX - 1)))
    }

    /// Subscribes anew in place of one: without the keys that are gone, with as many new ones as fit.
    fn change(&mut self, place: usize, names: &mut Names) -> Vec<ClientFrame<'static>> {
        let (mut keys, former) = match self.live.get_mut(place) {
            Some(live) => (std::mem::take(&mut live.keys), Some(live.name.clone())),
            None => (BTreeSet::new(), None),
        };
        self.covered.retain(|key| !keys.contains(key));
        keys.retain(|key| self.keys.contains(key));
        let room = if place + 1 == LIVE_MAX { usize::MAX } else { KEYS.saturating_sub(keys.len()) };
        keys.extend(
            self.keys
                .difference(&self.covered)
                .filter(|key| !keys.contains(*key))
                .take(room)
                .copied()
                .collect::<Vec<_>>(),
        );
        if keys.is_empty() {
            self.live.remove(place);
            let mut frames: Vec<_> = former.map(|former| self.close(former)).into_iter().collect();
            frames.extend(self.go_on(names));
            return frames;
        }
        self.covered.extend(&keys);
        let name = names.fresh("mail");
        // Not none, which some boards take for no limit.
        let frame = req(&name, Filter { limit: Some(1), ..self.filter(&keys) });
        let live = Live { name, keys, begun: false, former };
        match self.live.get_mut(place) {
            Some(known) => *known = live,
            None => self.live.push(live),
        }
        vec![frame]
    }

    /// What is stored for these keys: what is missing of it, or all when nothing is done with.
    fn ask_for(&mut self, keys: BTreeSet<Key>, names: &mut Names) -> ClientFrame<'static> {
        let done_with = if self.reconciles { self.seen.addressed(&self.kind.kinds(), &keys) } else { Vec::new() };
        let gap = if done_with.is_empty() { None } else { Gap::begin(done_with).ok() };
        let Some((gap, message)) = gap else { return self.read(Page::first(keys), names) };
        let name = names.fresh("mail");
        let open =
            ClientFrame::NegOpen { id: name.clone().into(), filter: self.filter(&keys), message: message.into() };
        self.talk = Some(Talk { name, keys, gap, unanswered: Some(Instant::now()) });
        open
    }

    /// The next piece of what a reconciliation found; none when all of it was asked for.
    fn fetch(&mut self, keys: BTreeSet<Key>, mut gap: Gap, names: &mut Names) -> Option<ClientFrame<'static>> {
        let ids = gap.next();
        if ids.is_empty() {
            return None;
        }
        let name = names.fresh("mail");
        let frame = req(&name, Filter { ids: Some(ids), ..self.filter(&keys) });
        self.page = Some(Page { name, found: Some(gap), ..Page::first(keys) });
        Some(frame)
    }

    /// At the end of a page: the one before it, when this one was full.
    fn turn(&mut self, page: Page, names: &mut Names) -> Vec<ClientFrame<'static>> {
        let mut frames = vec![self.close(page.name)];
        if let Some(gap) = page.found {
            frames.extend(self.fetch(page.keys, gap, names));
        } else if page.events >= PAGE_EVENTS && page.number < PAGES_MAX {
            // A whole page of one second would otherwise be sent again and again.
            let stuck = page.oldest == page.until;
            let until = page.oldest.map(|oldest| Unix(oldest.0.saturating_sub(u64::from(stuck))));
            frames.push(self.read(Page { until, number: page.number + 1, ..Page::first(page.keys) }, names));
        }
        frames
    }

    fn read(&mut self, page: Page, names: &mut Names) -> ClientFrame<'static> {
        let name = names.fresh("mail");
        let frame = req(&name, Filter { until: page.until, ..self.filter(&page.keys) });
        self.page = Some(Page { name, ..page });
        frame
    }

    fn close(&mut self, name: String) -> ClientFrame<'static> {
        if self.past.len() >= PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(name.clone());
        ClientFrame::Close(name.into())
    }

    fn filter(&self, keys: &BTreeSet<Key>) -> Filter {
        let tags = BTreeMap::from([(b'p', keys.iter().map(hex32).collect())]);
        Filter { kinds: Some(self.kind.kinds()), tags, ..Filter::default() }
    }
}

fn req(name: &str, filter: Filter) -> ClientFrame<'static> {
    ClientFrame::Req { id: name.to_owned().into(), filters: vec![filter] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<Key> {
        numbers.into_iter().map(|number| [number; 32]).collect()
    }

    fn empty(kind: MailKind) -> Mailbox {
        Mailbox::new(kind, Arc::default(), true)
    }

    /// Frames in short: `live-3` and `page-3` ask for the mail of three keys, `end` ends a subscription.
    fn short(frames: &[ClientFrame<'static>]) -> Vec<String> {
        let one = |frame: &ClientFrame<'static>| match frame {
            ClientFrame::Req { filters, .. } => {
                let what = if filters[0].limit == Some(1) { "live" } else { "page" };
                format!("{what}-{}", filters[0].tags[&b'p'].len())
            }
            ClientFrame::Close(_) => "end".to_owned(),
            ClientFrame::NegOpen { filter, .. } => format!("reconcile-{}", filter.tags[&b'p'].len()),
            other => panic!("{}", other.to_json()),
        };
        frames.iter().map(one).collect()
    }

    fn name(frames: &[ClientFrame<'static>]) -> String {
        match frames.last() {
            Some(ClientFrame::Req { id, .. } | ClientFrame::NegOpen { id, .. }) => id.to_string(),
            _ => panic!("nothing was asked"),
        }
    }

    #[test]
    fn a_new_key_asks_for_its_own_stored_mail_only_and_nothing_falls_between() {
        let (mut mailbox, mut names) = (empty(MailKind::Wraps), Names::default());
        let live = mailbox.is_of(keys(0..3), false, &mut names);
        assert_eq!(short(&live), ["live-3"]);
        let page = mailbox.ended(&name(&live), &mut names).unwrap();
        assert_eq!(short(&page), ["page-3"]);
        assert!(!mailbox.is_read());
        assert_eq!(short(&mailbox.ended(&name(&page), &mut names).unwrap()), ["end"]);
        assert!(mailbox.is_read());

        let wider = mailbox.is_of(keys(0..4), false, &mut names);
        assert_eq!(short(&wider), ["live-4"], "the one before stands until this one has begun");
        assert!(mailbox.takes(&name(&live), Unix(1)) && mailbox.takes(&name(&wider), Unix(1)));
        let page = mailbox.ended(&name(&wider), &mut names).unwrap();
        assert_eq!(short(&page), ["end", "page-1"]);
        assert!(mailbox.takes(&name(&live), Unix(1)), "what was on its way when it ended");
        assert_eq!(short(&mailbox.ended(&name(&page), &mut names).unwrap()), ["end"]);
    }

    #[test]
    fn keys_that_come_faster_than_the_board_answers_are_asked_for_together() {
        let (mut mailbox, mut names) = (empty(MailKind::Steps), Names::default());
        let first = mailbox.is_of(keys(0..1), false, &mut names);
        for most in 2..9 {
            assert_eq!(short(&mailbox.is_of(keys(0..most), false, &mut names)), [""; 0]);
        }
        let all = mailbox.ended(&name(&first), &mut names).unwrap();
        assert_eq!(short(&all), ["live-8"]);
        assert_eq!(short(&mailbox.ended(&name(&all), &mut names).unwrap()), ["end", "page-8"]);
    }

    #[test]
    fn pages_follow_each_other_while_they_are_full() {
        let (mut mailbox, mut names) = (empty(MailKind::Wraps), Names::default());
        let live = mailbox.is_of(keys(0..1), false, &mut names);
        let page = mailbox.ended(&name(&live), &mut names).unwrap();
        for at in 0..PAGE_EVENTS {
            assert!(mailbox.takes(&name(&page), Unix(1_000 + at)));
        }
        let next = mailbox.ended(&name(&page), &mut names).unwrap();
        assert_eq!(short(&next), ["end", "page-1"]);
        let ClientFrame::Req { filters, .. } = &next[1] else { panic!("no page") };
        assert_eq!(filters[0].until, Some(Unix(1_000)));
        // A page of that second alone: the next is of the time before it.
        for _ in 0..PAGE_EVENTS {
            mailbox.takes(&name(&next), Unix(1_000));
        }
        let last = mailbox.ended(&name(&next), &mut names).unwrap();
        let ClientFrame::Req { filters, .. } = &last[1] else { panic!("no page") };
        assert_eq!(filters[0].until, Some(Unix(999)));
        assert_eq!(short(&mailbox.ended(&name(&last), &mut names).unwrap()), ["end"]);
        assert!(mailbox.is_read());
    }

    #[test]
    fn everything_is_read_again_when_it_is_wanted_again() {
        let (mut mailbox, mut names) = (empty(MailKind::Wraps), Names::default());
        let live = mailbox.is_of(keys(0..3), false, &mut names);
        let page = mailbox.ended(&name(&live), &mut names).unwrap();
        // Wanted while a page is read: after it.
        assert_eq!(short(&mailbox.is_of(keys(0..3), true, &mut names)), [""; 0]);
        assert_eq!(short(&mailbox.ended(&name(&page), &mut names).unwrap()), ["end", "page-3"]);
    }

    #[test]
    fn what_is_done_with_is_reconciled_and_a_board_that_cannot_sends_all_of_it() {
        let seen = Arc::new(Seen::default());
        let (mut mailbox, mut names) = (Mailbox::new(MailKind::Wraps, seen.clone(), true), Names::default());
        let live = mailbox.is_of(keys(0..2), false, &mut names);
        let page = mailbox.ended(&name(&live), &mut names).unwrap();
        assert_eq!(short(&page), ["page-2"], "nothing is done with yet");
        mailbox.ended(&name(&page), &mut names).unwrap();
        seen.insert(&crate::mail_seen::tests::event(1, 1));

        let open = mailbox.is_of(keys(0..2), true, &mut names);
        assert_eq!(short(&open), ["reconcile-2"]);
        assert!(mailbox.reconciles_as(&name(&open)) && mailbox.is_unanswered(Duration::ZERO) && !mailbox.is_read());
        let page = mailbox.learn(Err(Broken::because("blocked: too much")), &mut names);
        assert_eq!(short(&page), ["page-2"]);
        assert!(!mailbox.is_unanswered(Duration::ZERO));
        mailbox.ended(&name(&page), &mut names).unwrap();

        assert_eq!(short(&mailbox.is_of(keys(0..2), true, &mut names)), ["reconcile-2"]);
        let page: Vec<_> = mailbox.cannot_reconcile(&mut names).into_iter().collect();
        assert_eq!(short(&page), ["page-2"]);
        mailbox.ended(&name(&page), &mut names).unwrap();
        assert!(mailbox.is_read());
        assert_eq!(short(&mailbox.is_of(keys(0..2), true, &mut names)), ["page-2"], "it is not tried again");
    }

    #[test]
    fn what_a_board_refuses_before_it_knows_us_is_asked_for_again() {
        let (mut mailbox, mut names) = (empty(MailKind::Steps), Names::default());
        let live = mailbox.is_of(keys(0..2), false, &mut names);
        mailbox.refused(&name(&live));
        let live = mailbox.is_of(keys(0..2), false, &mut names);
        assert_eq!(short(&live), ["live-2"]);
        assert_eq!(short(&mailbox.ended(&name(&live), &mut names).unwrap()), ["page-2"]);
    }

    #[test]
    fn many_keys_are_in_subscriptions_of_some_and_a_new_one_changes_one_of_them() {
        let (mut mailbox, mut names) = (empty(MailKind::Wraps), Names::default());
        let many = |count: u16| -> BTreeSet<Key> {
            let key = |number: u16| std::array::from_fn(|at| number.to_be_bytes()[at % 2]);
            (0..count).map(key).collect()
        };
        let mut asked = mailbox.is_of(many(501), false, &mut names);
        let mut all = short(&asked);
        while !mailbox.is_read() {
            asked = mailbox.ended(&name(&asked), &mut names).unwrap();
            all.extend(short(&asked));
            if asked.len() == 1 && short(&asked) == ["end"] {
                break;
            }
        }
        let expected = "live-200 live-200 live-101 page-200 end page-200 end page-101 end";
        assert_eq!(all.join(" "), expected);
        assert!(mailbox.is_read());
        let wider = mailbox.is_of(many(502), false, &mut names);
        assert_eq!(short(&wider), ["live-102"]);
        let page = mailbox.ended(&name(&wider), &mut names).unwrap();
        assert_eq!(short(&page), ["end", "page-1"]);
        mailbox.ended(&name(&page), &mut names).unwrap();
        // Keys that are gone leave theirs, and new ones take the room.
        let mut fewer = many(502);
        fewer.pop_first();
        assert_eq!(short(&mailbox.is_of(fewer, false, &mut names)), ["live-199"]);
        let most = many(u16::try_from(KEYS * LIVE_MAX + 300).unwrap());
        let mut mailbox = empty(MailKind::Wraps);
        let mut asked = mailbox.is_of(most.clone(), false, &mut names);
        while mailbox.covered != most {
            asked = mailbox.ended(&name(&asked), &mut names).unwrap();
        }
        assert_eq!((mailbox.live.len(), mailbox.live.last().unwrap().keys.len()), (LIVE_MAX, KEYS + 300));
    }

    #[test]
    fn nobodys_mail_is_not_asked_for() {
        let (mut mailbox, mut names) = (empty(MailKind::Steps), Names::default());
        assert_eq!(short(&mailbox.is_of(keys(0..0), true, &mut names)), [""; 0]);
        let live = mailbox.is_of(keys(0..1), false, &mut names);
        mailbox.ended(&name(&live), &mut names).unwrap();
        assert_eq!(short(&mailbox.is_of(keys(0..0), false, &mut names)), ["end"]);
    }
}
