//! `kill -9` of the seller's or the buyer's daemon at each step of a trade: after the restart the trade ends as the
//! uninterrupted one does, nothing is paid twice, and every balance is what the contract says, to the millisatoshi.

use std::time::Duration;

use super::market::{Market, Person};

const PRICE: i64 = 40_000;
/// What the arbiter charges.
const FEE: i64 = 300;
/// The fee, tranches of the price and the payer's bond.
const BUYER_PAYS: usize = 3;

/// Where the trade is when the axe falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Listed,
    Bid,
    Accepted,
    Held,
    Shipped,
    Released,
    Never,
}

const STEPS: [Step; 6] = [Step::Listed, Step::Bid, Step::Accepted, Step::Held, Step::Shipped, Step::Released];

/// Not a wait for something: the moments at which the axe falls are spread over what the daemon does after a step.
const AXE_AFTER: [Duration; 2] = [Duration::ZERO, Duration::from_millis(40)];

#[test]
fn trade_survives_kill_at_every_step() {
    let mut market = Market::charging("sealed", 300);
    trade(&mut market, Step::Never, true, Duration::ZERO);
    for axe_after in AXE_AFTER {
        for step in STEPS {
            for victim_is_seller in [true, false] {
                trade(&mut market, step, victim_is_seller, axe_after);
            }
        }
    }
}

fn victim(market: &mut Market, is_seller: bool) -> &mut Person {
    if is_seller { &mut market.seller } else { &mut market.buyer }
}

/// One trade from listing to settlement, with a kill and a restart after `axe_at`.
fn trade(market: &mut Market, axe_at: Step, victim_is_seller: bool, axe_after: Duration) {
    let story =
        format!("kill of the {} {axe_after:?} after {axe_at:?}", if victim_is_seller { "seller" } else { "buyer" });
    let before = [market.seller.balance(), market.buyer.balance(), market.arbiter.balance()];
    let (paid_before, fees_before) = market.buyer.paid();
    let axe = |market: &mut Market, step| {
        if step == axe_at {
            std::thread::sleep(axe_after);
            let victim = victim(market, victim_is_seller);
            victim.kill();
            victim.start();
        }
    };

    let arbiter = market.arbiter.ask(&["status"]).unwrap()["identity"].as_str().unwrap().to_owned();
    let sold = market.seller.ask(&[
        "sell",
        "Wool socks",
        "--price",
        "40000",
        "--mode",
        "bonded",
        "--arbiter",
        &arbiter,
        "--arbiter-release",
        "--min-payer-bond",
        "40000",
        "--payee-bond",
        "4000",
    ]);
    let listing = sold.unwrap()["listing"].as_str().unwrap().to_owned();
    axe(market, Step::Listed);

    let mut trade = String::new();
    market.buyer.until("can bid", |buyer| match buyer.ask(&["bid", &listing, "--max-arbiter-fee", "300"]) {
        Ok(reply) => {
            reply["trade"].as_str().unwrap().clone_into(&mut trade);
            true
        }
        Err((3, _)) => false,
        Err(error) => panic!("{story}: {error:?}"),
    });
    axe(market, Step::Bid);

    step(&market.seller, &story, &["accept", &trade]);
    axe(market, Step::Accepted);

    for person in [&market.seller, &market.buyer] {
        person.until(&format!("has every leg held ({story})"), |p| p.sees(&trade) == "held");
    }
    axe(market, Step::Held);

    step(&market.seller, &story, &["ship", &trade]);
    axe(market, Step::Shipped);

    market.buyer.until(&format!("knows of the shipment ({story})"), |p| p.sees(&trade) == "shipped");
    step(&market.buyer, &story, &["confirm", &trade]);
    axe(market, Step::Released);

    for person in [&market.seller, &market.buyer] {
        person.until(&format!("has the trade settled ({story})"), |p| p.sees(&trade) == "settled");
    }
    market.until_idle();
    let (paid, fees) = market.buyer.paid();
    let fees = fees - fees_before;
    assert_eq!(paid - paid_before, BUYER_PAYS - 1, "{story}: fee and price once, and no bond");
    assert_eq!(market.seller.balance(), before[0] + PRICE * 1000, "{story}: seller");
    assert_eq!(market.buyer.balance(), before[1] - (PRICE + FEE) * 1000 - fees, "{story}: buyer");
    assert_eq!(market.arbiter.balance(), before[2] + FEE * 1000, "{story}: arbiter");
}

/// A step that is refused until the messages it answers have arrived.
fn step(person: &Person, story: &str, args: &[&str]) {
    person.until(&format!("can {} ({story})", args[0]), |p| match p.ask(args) {
        Ok(_) => true,
        Err((1..=4, _)) => false,
        Err(error) => panic!("{story}: {error:?}"),
    });
}
