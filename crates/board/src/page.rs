//! The frames that show stored events, one turn of an answer after another.

use units::Unix;

use crate::compression::Agreement;
use crate::deflate::Deflater;
use crate::outlet::spare;
use crate::store::{Budget, Cursor, Encoded, Sink, StoreError};
use crate::websocket::put_text;

/// How the events of an answer are shown.
pub(crate) struct Page {
    /// What each frame begins with.
    pub(crate) head: String,
    /// What was agreed on about compression.
    pub(crate) agreed: Option<Agreement>,
}

/// What a turn brought.
pub(crate) struct Part {
    /// Frames to be sent, and how many. They refer to each other, if they are compressed: nothing may come between them.
    pub(crate) frames: Vec<u8>,
    pub(crate) count: u64,
    /// Bytes of the events before they were compressed.
    pub(crate) weight: usize,
    /// There are no more.
    pub(crate) done: bool,
}

impl Part {
    /// Nothing to be sent.
    pub(crate) fn empty(done: bool) -> Part {
        Part { frames: Vec::new(), count: 0, weight: 0, done }
    }
}

struct Writing<'a> {
    head: &'a str,
    deflating: Option<(Agreement, &'a mut Deflater)>,
    part: Part,
}

impl Sink for Writing<'_> {
    fn take(&mut self, event: &Encoded) {
        let (frames, parts) = (&mut self.part.frames, [self.head, &event.json, "]"]);
        match &mut self.deflating {
            None => put_text(frames, parts),
            Some((agreed, deflater)) => agreed.put_text(deflater, frames, parts),
        }
        self.part.count += 1;
        self.part.weight += event.json.len();
    }
}

impl Page {
    /// Takes the next turn.
    pub(crate) fn turn(&self, cursor: &mut dyn Cursor, now: Unix, budget: Budget) -> Result<Part, StoreError> {
        match self.agreed {
            None => self.written(cursor, now, budget, None),
            Some(agreed) => {
                Deflater::lent(agreed.effort(), |deflater| self.written(cursor, now, budget, Some((agreed, deflater))))
            }
        }
    }

    fn written(
        &self,
        cursor: &mut dyn Cursor,
        now: Unix,
        budget: Budget,
        deflating: Option<(Agreement, &mut Deflater)>,
    ) -> Result<Part, StoreError> {
        let part = Part { frames: spare(), ..Part::empty(false) };
        let mut writing = Writing { head: &self.head, deflating, part };
        let done = cursor.advance(now, budget, &mut writing)?;
        Ok(Part { done, ..writing.part })
    }
}
