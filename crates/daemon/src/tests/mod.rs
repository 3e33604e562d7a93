//! Daemons on a fake Lightning network and real boards: everything above the node as it runs, with boards that can be told to lie.

mod boards;
mod people;

mod a_lost_word_is_asked_for_again;
mod a_lying_board_changes_nothing;
mod what_a_board_missed_it_gets_when_it_is_back;
