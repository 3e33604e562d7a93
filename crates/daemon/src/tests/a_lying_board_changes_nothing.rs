//! Scenario 21 (and 23): one of two boards withholds, repeats, reorders, says no OK, or brings forged copies first. The trade
//! ends as it does with two honest boards, to the millisatoshi.

use super::boards::Mischief;
use super::people::{Bazaar, PRICE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_board_changes_nothing() {
    let bazaar = Bazaar::open(2).await;
    let lies = [
        Mischief::None,
        Mischief::Withholds,
        Mischief::Repeats,
        Mischief::Reorders,
        Mischief::SwallowsOk,
        Mischief::Forges,
    ];
    let mut cost = None;
    for lie in lies {
        bazaar.boards[0].does(lie.clone());
        let before = [bazaar.seller.balance().await, bazaar.buyer.balance().await];
        let trade = bazaar.bid().await;
        bazaar.finish(trade).await;
        let after = [bazaar.seller.balance().await, bazaar.buyer.balance().await];
        // A bond that comes back may have paid for its route: the same each time.
        let lost = before[1].0 - after[1].0;
        assert_eq!(*cost.get_or_insert(lost), lost, "{lie:?}: the buyer pays what it pays with honest boards");
        assert!(after[0].0 > before[0].0 + (PRICE - 100) * 1000, "{lie:?}: the seller has the price");
        bazaar.boards[0].does(Mischief::None);
    }
}
