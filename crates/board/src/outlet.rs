//! Where a connection's frames leave the board: whoever has something to say puts it here and writes it to the socket itself.
//!
//! So a delivery wakes no task. Only when the socket takes no more does the connection's task have to wait for it, and what waits
//! meanwhile is bounded: a reader that is slower than that is dropped.

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::compression::{Agreement, Shown, is_worth};
use crate::deflate::{Deflater, Effort};
use crate::store::Encoded;
use crate::websocket::put_text;

/// What an event weighs beside its JSON while it waits for the session.
const NEWS_WEIGHT: usize = 128;

/// Largest buffer that a thread keeps for the next answer.
const SPARE_MAX: usize = 512 * 1024;

thread_local! {
    /// Room for an answer, where the last one was before it was written.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer, with room if there is any to spare.
pub(crate) fn spare() -> Vec<u8> {
    SPARE.take()
}

/// Keeps a buffer for [`spare`].
fn keep(mut bytes: Vec<u8>) {
    let kept = SPARE.take();
    bytes.clear();
    let larger = bytes.capacity() > kept.capacity() && bytes.capacity() <= SPARE_MAX;
    SPARE.set(if larger { bytes } else { kept });
}

/// Why nothing leaves here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// More came than may wait.
    Overrun,
    /// The other side is gone, or the connection has ended.
    Gone,
}

/// How far the socket has taken what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// All of it.
    Clear,
    /// It takes no more at present.
    Blocked {
        /// Bytes that it has taken.
        sent: u64,
        /// Bytes that it was given.
        given: u64,
    },
    /// It will never take anything again.
    Shut(Shut),
}

#[derive(Debug)]
struct State {
    socket: Option<OwnedWriteHalf>,
    /// Frames, of which the first `at` bytes are written.
    bytes: Vec<u8>,
    at: usize,
    sent: u64,
    /// Frames that were put in.
    frames: u64,
    blocked: bool,
    /// Somebody who has put something in is going to flush.
    touched: bool,
    shut: Option<Shut>,
    /// New events, with the numbers of their subscriptions, that the session has to look at first.
    news: Vec<(u64, Arc<Encoded>)>,
    news_bytes: usize,
}

/// One connection's way out.
#[derive(Debug)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    /// Most bytes that wait.
    max: usize,
    /// What was agreed on about compression.
    agreed: Option<Agreement>,
    /// Rings for the connection's task: there is news, or the socket takes no more, or it is over.
    pub(crate) bell: Notify,
    /// Published events whose fate is open.
    open: AtomicUsize,
    /// The task wants to know when there are fewer of them.
    waits: AtomicBool,
}

impl State {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.at + self.news_bytes
    }

    fn shut(&mut self, why: Shut) {
        self.shut.get_or_insert(why);
        (self.bytes, self.at) = (Vec::new(), 0);
        (self.news, self.news_bytes) = (Vec::new(), 0);
    }

    /// Writes as much as the socket takes. True when the task has to hear of what came of it.
    fn write(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        while self.at < self.bytes.len() {
            match socket.try_write(&self.bytes[self.at..]) {
                Ok(0) => {
                    self.shut(Shut::Gone);
                    return true;
                }
                Ok(written) => {
                    self.at += written;
                    self.sent += written as u64;
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    // What was written long ago does not stay for ever.
                    if self.at > self.bytes.len() / 2 {
                        self.bytes.drain(..self.at);
                        self.at = 0;
                    }
                    return true;
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.shut(Shut::Gone);
                    return true;
                }
            }
        }
        // An idle connection holds no buffer.
        keep(std::mem::take(&mut self.bytes));
        self.at = 0;
        false
    }
}

impl Outlet {
    /// Over a socket, for at most `max` bytes that wait, compressed as was agreed on.
    pub(crate) fn new(socket: OwnedWriteHalf, max: usize, agreed: Option<Agreement>) -> Outlet {
        let state = State {
            socket: Some(socket),
            bytes: Vec::new(),
            at: 0,
            sent: 0,
            frames: 0,
            blocked: false,
            touched: false,
            shut: None,
            news: Vec::new(),
            news_bytes: 0,
        };
        Outlet {
            state: Mutex::new(state),
            max,
            agreed,
            bell: Notify::new(),
            open: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a text in, the `parts` one after another. True when the caller has to see to it that it is flushed: nobody else will.
    #[must_use]
    pub(crate) fn say(&self, parts: [&str; 3]) -> bool {
        let Some(agreed) = self.agreed.filter(|_| is_worth(&parts)) else {
            return self.put(|bytes| put_text(bytes, parts));
        };
        let mut frame = Vec::new();
        Deflater::lent(Effort::Full, |deflater| agreed.put_text(deflater, &mut frame, parts));
        self.put(|bytes| bytes.extend_from_slice(&frame))
    }

    /// Puts an event in, behind `head`. True as in [`Outlet::say`].
    #[must_use]
    fn show(&self, head: &str, event: &Shown<'_>) -> bool {
        self.put(|bytes| match self.agreed {
            None => put_text(bytes, [head, event.json, "]"]),
            Some(agreed) => agreed.put_event(bytes, head, event),
        })
    }

    /// What was agreed on about compression.
    pub(crate) fn agreed(&self) -> Option<Agreement> {
        self.agreed
    }

    /// Puts in whatever frames `write` appends. True as in [`Outlet::say`].
    #[must_use]
    pub(crate) fn put(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.put_many(1, write)
    }

    /// Puts in frames that were written elsewhere. True as in [`Outlet::say`].
    #[must_use]
    pub(crate) fn pass(&self, count: u64, frames: Vec<u8>) -> bool {
        self.put_many(count, |bytes| {
            if bytes.is_empty() {
                *bytes = frames;
            } else {
                bytes.extend_from_slice(&frames);
                keep(frames);
            }
        })
    }

    fn put_many(&self, count: u64, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        if state.shut.is_some() {
            return false;
        }
        write(&mut state.bytes);
        state.frames += count;
        if state.waiting() > self.max {
            state.shut(Shut::Overrun);
            drop(state);
            self.bell.notify_one();
            return false;
        }
        !std::mem::replace(&mut state.touched, true)
    }

    /// Leaves an event for the session to look at.
    pub(crate) fn tell(&self, ticket: u64, event: &Arc<Encoded>) {
        let mut state = self.state();
        if state.shut.is_some() {
            return;
        }
        state.news_bytes += event.json.len() + NEWS_WEIGHT;
        if state.waiting() > self.max {
            state.shut(Shut::Overrun);
        } else {
            state.news.push((ticket, event.clone()));
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Takes what was left for the session.
    pub(crate) fn news(&self) -> Vec<(u64, Arc<Encoded>)> {
        let mut state = self.state();
        state.news_bytes = 0;
        std::mem::take(&mut state.news)
    }

    /// Something is left for the session about this subscription.
    pub(crate) fn has_news_of(&self, ticket: u64) -> bool {
        self.state().news.iter().any(|(of, _)| *of == ticket)
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&self) {
        let mut state = self.state();
        state.touched = false;
        if !state.blocked && state.write() {
            drop(state);
            self.bell.notify_one();
        }
    }

    /// The socket takes more again.
    pub(crate) fn unblock(&self) {
        self.state().blocked = false;
        self.flush();
    }

    /// How far it is.
    pub(crate) fn flow(&self) -> Flow {
        let state = self.state();
        match state.shut {
            Some(why) => Flow::Shut(why),
            None if state.blocked => {
                Flow::Blocked { sent: state.sent, given: state.sent + (state.bytes.len() - state.at) as u64 }
            }
            None => Flow::Clear,
        }
    }

    /// Frames that were put in, and bytes that the socket has taken.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        let state = self.state();
        (state.frames, state.sent)
    }

    /// Nothing leaves any more; the socket is let go.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.shut(Shut::Gone);
        state.socket = None;
    }

    /// An event was published whose fate will be told.
    pub(crate) fn open(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// The fate of one was told.
    pub(crate) fn settle(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        if self.waits.load(Ordering::SeqCst) {
            self.bell.notify_one();
        }
    }

    /// Published events whose fate is open.
    pub(crate) fn in_flight(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// From now on the bell rings, or does not ring, for each fate.
    pub(crate) fn wait_for_fates(&self, waits: bool) {
        self.waits.store(waits, Ordering::SeqCst);
    }
}

/// Outlets that have to be flushed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    outlets: Vec<Arc<Outlet>>,
    bytes: usize,
}

impl Touched {
    /// Says something that has to leave at once.
    pub(crate) fn say(&mut self, outlet: &Arc<Outlet>, parts: [&str; 3]) {
        // Somebody else may be about to flush it, but not soon enough.
        let _never_mind = outlet.say(parts);
        if self.outlets.last().is_none_or(|last| !Arc::ptr_eq(last, outlet)) {
            self.outlets.push(outlet.clone());
        }
    }

    /// Shows an event behind `head`, which may leave together with what is there already.
    pub(crate) fn show(&mut self, outlet: &Arc<Outlet>, head: &str, event: &Shown<'_>) {
        // Compressed it is less.
        self.bytes += head.len() + event.json.len() + 1;
        if outlet.show(head, event) {
            self.outlets.push(outlet.clone());
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.outlets.len()
    }

    /// Bytes shown since they were flushed last.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes were shown to some of them by way of another list.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.bytes += if self.outlets.is_empty() { 0 } else { bytes };
    }

    /// Takes over what is in `other`.
    pub(crate) fn append(&mut self, other: &mut Touched) {
        self.outlets.append(&mut other.outlets);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Flushes all of them.
    pub(crate) fn flush(&mut self) {
        self.flush_some(usize::MAX);
    }

    /// Flushes at most `count` of them.
    pub(crate) fn flush_some(&mut self, count: usize) {
        self.outlets.drain(..count.min(self.outlets.len())).for_each(|outlet| outlet.flush());
        if self.outlets.is_empty() {
            self.bytes = 0;
        }
    }
}
