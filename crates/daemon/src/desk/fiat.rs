//! Bids on our orders for bitcoin against money of a country: a rate that is not ours is turned down, and never accepted.

use trade::{Command, Input, TradeId};

use super::{DeskError, Loop};
use crate::clock;
use crate::fiat::{BadRate, check_rate, quote_of};

impl Loop {
    /// May our user accept this bid? Any bid on goods, and one that quotes about our own rate.
    pub(super) fn check_quote(&self, trade: TradeId) -> Result<(), BadRate> {
        match self.desk.trade(trade).and_then(quote_of) {
            Some(bid) => check_rate(&self.parts.rates, bid, clock::unix()),
            None => Ok(()),
        }
    }

    /// Turns bids down whose rate is not ours, so that their takers need not wait. Without a rate of our own they wait for our user.
    pub(super) fn turn_down_bad_rates(&mut self) -> Result<(), DeskError> {
        let waiting = self.desk.open_trades().filter_map(|trade| Some((trade.id(), quote_of(trade)?)));
        let apart: Vec<_> = waiting
            .filter_map(|(id, bid)| match check_rate(&self.parts.rates, bid, clock::unix()) {
                Err(BadRate::Apart(why)) => Some((id, why)),
                Err(BadRate::None(_)) | Ok(()) => None,
            })
            .collect();
        for (trade, why) in apart {
            tracing::info!(%trade, %why, "a bid is turned down");
            self.take_quietly(trade, &Input::Command(Command::Withdraw { reason: why.to_string() }))?;
        }
        Ok(())
    }
}
