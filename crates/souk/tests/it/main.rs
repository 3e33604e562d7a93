//! The program from outside: real processes, public commands, a chain of our own.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod a_copied_order_is_paid_by_anybody;
mod a_machine_is_lost_in_the_middle_of_a_trade;
mod bad_input_names_its_cause;
mod bare_board;
mod bitcoin_against_money_between_real_nodes;
mod every_message_of_a_trade_costs_a_credential;
mod killed_while_publishing;
mod market;
mod public_trades_are_plain_events;
mod the_guide_runs_as_it_stands;
mod the_program_describes_itself;
mod trade_survives_kill_at_every_step;
