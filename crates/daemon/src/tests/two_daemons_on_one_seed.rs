//! A machine was taken for lost and restored elsewhere, and then it comes back. The one that was started last has the trades; the other
//! says why it stands still, and can take them over when the last one is off.

use super::people::{Bazaar, Person, received, until};
use crate::api::types::{ChatRequest, ChatTo};
use crate::desk::DeskError;

async fn stands_still(person: &Person) {
    let superseded = async || person.desk().status().await.unwrap().superseded.is_some();
    until(&format!("{} hears of the other one", person.name), superseded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_on_one_seed() {
    let mut bazaar = Bazaar::open(2).await;
    let trade = bazaar.shipped().await;
    bazaar.buyer.kept().await;
    let mut twin = bazaar.buyer.twin();
    twin.start().await;
    assert_eq!(twin.sees(trade).await, "shipped");

    for _ in 0..2 {
        stands_still(&bazaar.buyer).await;
        let refused = bazaar.buyer.desk().step(trade, received()).await.unwrap_err();
        assert!(
            matches!(refused, DeskError::Superseded { .. }) && refused.to_string().contains("--take-over"),
            "{refused}"
        );
        let words = ChatRequest { text: "hello".to_owned(), to: ChatTo::Counterparty };
        assert!(matches!(bazaar.buyer.desk().say(trade, words).await, Err(DeskError::Superseded { .. })));
        assert_eq!(bazaar.buyer.sees(trade).await, "shipped", "it still answers whoever looks");
        bazaar.buyer.stop().await;
        bazaar.buyer.start().await;
    }
    assert_eq!(twin.desk().status().await.unwrap().superseded, None, "the last one goes on");
    twin.steps(trade, received()).await;
    bazaar.seller.until_sees(trade, "settled").await;
    twin.until_sees(trade, "settled").await;
    assert_eq!(bazaar.buyer.sees(trade).await, "shipped");
    let warned = bazaar.seller.view(trade).await.unwrap().warnings;
    assert!(warned.iter().all(|warning| !warning.text.contains("two different things")), "{warned:?}");

    twin.kept().await;
    bazaar.buyer.stop().await;
    bazaar.buyer.take_over();
    bazaar.buyer.start().await;
    assert_eq!(bazaar.buyer.sees(trade).await, "settled", "the boards know what the other one did");
    assert_eq!(bazaar.buyer.desk().status().await.unwrap().superseded, None);
    stands_still(&twin).await;
    twin.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_of_one_directory_are_two_as_well() {
    let mut bazaar = Bazaar::open(1).await;
    let trade = bazaar.shipped().await;
    bazaar.buyer.kept().await;
    bazaar.buyer.stop().await;
    let mut copy = bazaar.buyer.copy();
    bazaar.buyer.start().await;
    copy.start().await;
    let standing = async |person: &Person| person.desk().status().await.unwrap().superseded.is_some();
    let one = async || standing(&bazaar.buyer).await || standing(&copy).await;
    until("one of them stands still", one).await;
    let (going, still) = if standing(&copy).await { (&bazaar.buyer, &copy) } else { (&copy, &bazaar.buyer) };
    assert!(matches!(still.desk().step(trade, received()).await, Err(DeskError::Superseded { .. })));
    going.steps(trade, received()).await;
    going.until_sees(trade, "settled").await;
    assert!(!standing(going).await);
    copy.stop().await;
}
