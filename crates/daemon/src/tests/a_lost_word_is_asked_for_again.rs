//! Scenario 21: a word is lost between a board and a daemon whose connection stays up. Others show that
//! it is missing, and the board is asked again.

use super::boards::Mischief;
use super::people::Bazaar;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_word_is_asked_for_again() {
    let bazaar = Bazaar::open(1).await;
    let seller = bazaar.seller.desk().identity().to_string();
    // The arbiter's appointment reaches the seller, the bid that it is about does not. Then the other way round.
    for loss in [Mischief::LosesSecond(seller.clone()), Mischief::LosesNext(seller)] {
        let listing = bazaar.seller.desk().sell(bazaar.goods()).await.unwrap();
        bazaar.boards[0].does(loss);
        let trade = bazaar.take(listing).await;
        bazaar.finish(trade).await;
    }
}
