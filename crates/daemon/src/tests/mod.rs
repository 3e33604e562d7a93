//! Daemons on a fake Lightning network and real boards: everything above the node as it runs, with boards that can be told to lie.

mod boards;
mod bureau;
mod people;

mod a_board_sells_credentials;
mod a_listing_changes_while_trades_run;
mod a_listing_is_mirrored_while_it_sells;
mod a_lost_word_is_asked_for_again;
mod a_lying_board_changes_nothing;
mod a_node_that_is_away_or_loses_its_answer;
mod a_trader_buys_credentials;
mod an_arbiter_charges_and_is_paid_first;
mod an_arbiter_has_a_record;
mod an_arbiter_has_an_inbox;
mod an_arbiter_that_has_only_its_seed_rules;
mod bitcoin_is_bought_for_money_of_a_country;
mod bitcoin_is_sold_for_money_of_a_country;
mod deadlines_are_told_by_every_channel;
mod goods_that_outlive_the_lock_are_locked_again;
mod mail_that_is_missing_is_found;
mod nobody_drops_the_rating_it_earned;
mod other_markets_are_read_and_orders_published;
mod programs_use_the_api_with_tokens;
mod seed_and_boards_bring_a_trade_back;
mod two_daemons_on_one_seed;
mod two_people_haggle_and_talk;
mod what_a_board_missed_it_gets_when_it_is_back;
