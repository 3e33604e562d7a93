//! Scenarios 14, 20 and 21: a board that was away gets what it missed, also when the sender was stopped in between; and then the
//! other board may go away for good.

use super::people::{Bazaar, accept, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_board_missed_it_gets_when_it_is_back() {
    let mut bazaar = Bazaar::open(2).await;
    let trade = bazaar.bid().await;
    until("the seller has the bid", async || bazaar.seller.view(trade).await.is_some()).await;
    // The buyer is away, and so is the second board, while the seller accepts.
    bazaar.buyer.stop().await;
    bazaar.boards[1].close();
    bazaar.seller.steps(trade, accept()).await;
    until("the first board has the acceptance", async || {
        bazaar.seller.view(trade).await.is_some_and(|view| view.state == "locking" && view.owed.is_empty())
    })
    .await;
    bazaar.seller.stop().await;
    // Now only the second board is there, and it has never heard of the acceptance.
    bazaar.boards[0].close();
    bazaar.boards[1].reopen();
    bazaar.seller.start().await;
    bazaar.buyer.start().await;
    bazaar.finish_held(trade).await;
}
