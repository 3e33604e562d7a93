//! The scenarios of a trade, one file each: the file's name is its story, its first line the number in docs/scenarios.md.
//! Those that need boards, or a node that loses answers, are in the daemon's tests.

mod a_bond_is_forfeited_while_its_owner_is_away;
mod a_dispute_meets_a_release_or_a_refund;
mod a_part_of_the_price_never_arrives;
mod a_payment_comes_too_late;
mod a_payment_hangs;
mod a_receipt_of_another_order;
mod a_ruling_splits_the_price;
mod a_secret_that_leaked;
mod a_word_about_money_is_no_money;
mod a_wrong_amount_is_never_held;
mod an_arbiter_is_paid_before_anything_is_locked;
mod an_arbiter_that_is_silent_late_or_two_faced;
mod an_invoice_that_lies_is_never_paid;
mod an_old_backup;
mod blocks_reorganisations_and_clocks;
mod crash_after_paying;
mod crash_after_publishing;
mod crash_after_settling;
mod goods_are_not_shipped_in_time;
mod one_side_never_shows_anything;
mod paid_in_the_second_of_the_timeout;
mod settled_or_canceled_only_once;
mod shipped_and_no_receipt;
mod strangers_and_forgeries;
mod taken_without_release;
mod the_arbiter_has_only_its_seed;
mod the_bond_is_locked_the_price_is_not;
mod the_buyer_is_silent_after_delivery;
mod the_buyer_lost_its_secrets;
mod the_buyer_never_pays;
mod the_node_gave_the_lock_up_while_we_were_away;
mod the_seller_was_away_when_the_secret_came;
mod two_takers_and_one_piece;
mod who_may_dispute;
mod words_that_only_one_side_hears;

use trade::{
    BondFate, Command, Effect, Entry, Envelope, EscrowTerms, Event, Input, InvoiceFacts, Leg, LegId, Message,
    NodeReport, Notice, OnSilence, Outcome, PartyKey, ReceiptStatus, Rule, Step, TradeId,
};
use units::{Height, Msat, Sat, Unix};

use crate::story::{
    ARBITER, Hold, PAYEE, PAYER, Payment, Story, accept, arbitrated, bonded, cancel, direct, dispute, key, message_id,
    node_id, refund, release, rule, ship,
};
