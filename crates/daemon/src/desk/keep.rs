//! Keeping the log on the boards: what is new of a stream goes out before a message of it does, and otherwise within a second or two.

use trade::{MessageId, TradeId};

use super::{DeskError, Loop};
use crate::clock;

/// Streams that are kept in one turn; more wait for the next.
const STREAMS_PER_TURN: usize = 32;

impl Loop {
    /// Puts what the boards do not keep yet into the outbox.
    pub(super) fn keep_all(&mut self) -> Result<(), DeskError> {
        let streams: Vec<_> = self.unkept.iter().take(STREAMS_PER_TURN).copied().collect();
        streams.into_iter().try_for_each(|stream| self.keep(stream))
    }

    /// The same for one stream.
    pub(super) fn keep(&mut self, stream: TradeId) -> Result<(), DeskError> {
        if !self.unkept.remove(&stream) {
            return Ok(());
        }
        let Some(vault) = &self.parts.vault else { return Ok(()) };
        let entries = tokio::task::block_in_place(|| self.parts.store.unkept_of(stream))?;
        let name = self.name_of(stream);
        match vault.sheets(entries, self.parts.keyring.ranges(), name.as_ref(), clock::unix()) {
            Ok(sheets) => {
                for sheet in sheets {
                    self.couriers.keep(stream, &sheet)?;
                }
            }
            Err(error) => tracing::error!(trade = %stream, %error, "the log of this trade is not kept on the boards"),
        }
        Ok(())
    }

    fn name_of(&self, stream: TradeId) -> Option<(MessageId, String)> {
        let listing = self.desk.trade(stream).map(|trade| trade.dossier().opening.listing);
        let listing = listing.or_else(|| self.desk.stall(stream)?.current)?;
        self.names.get(&listing).map(|name| (listing, name.clone()))
    }
}
