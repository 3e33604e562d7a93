//! Whatever strangers write: nothing panics, nothing is unbounded, nothing reaches a terminal that steers it.

use markets::{Advert, KINDS, LINK_MAX, LIST_MAX, NAME_MAX, Subject, TEXT_MAX, TITLE_MAX, kind, read};
use proptest::prelude::*;
use wire::Tag;

use crate::{NOW, event, sign};

fn shown(advert: &Advert) -> Vec<(String, usize)> {
    let mut all = vec![
        (advert.title.clone(), TITLE_MAX),
        (advert.venue.clone(), NAME_MAX),
        (advert.text.clone(), TEXT_MAX),
        (advert.place.clone(), NAME_MAX),
        (advert.link.clone().unwrap_or_default(), LINK_MAX),
    ];
    match &advert.subject {
        Subject::Goods(goods) => {
            assert!([&goods.shipping, &goods.categories, &goods.pictures].iter().all(|list| list.len() <= LIST_MAX));
            assert!(goods.facts.len() <= LIST_MAX);
            let facts = goods.facts.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
            let rest = [&goods.shipping, &goods.categories].into_iter().flatten().cloned().chain(facts);
            all.extend(rest.map(|text| (text, 2 * TITLE_MAX)));
            all.push((goods.price.currency.clone(), NAME_MAX));
        }
        Subject::Currency(order) => {
            assert!(order.methods.len() <= LIST_MAX && order.min <= order.max);
            all.extend(order.methods.iter().map(|text| (text.clone(), NAME_MAX)));
        }
        Subject::Stall(stall) => all.extend(stall.shipping.iter().map(|text| (text.clone(), TITLE_MAX))),
        Subject::Order(_) => {}
    }
    all
}

#[test]
fn a_title_that_would_clear_the_screen_does_not() {
    let tags: &[&[&str]] =
        &[&["d", "x"], &["title", "\u{1b}[2J\u{9b}31mFree\u{202e}!"], &["price", "1", "SAT"], &["t", "a\nb"]];
    let advert = read(&event(kind::CLASSIFIED, tags, "one\u{1b}]0;x\u{7}\ntwo"), NOW).unwrap();
    assert_eq!((advert.title.as_str(), advert.text.as_str()), ("[2J31mFree!", "one]0;x\ntwo"));
}

#[test]
fn a_flood_of_tags_is_cut() {
    let many: Vec<String> = (0..500).map(|n| format!("name {n}")).collect();
    let mut tags: Vec<Vec<&str>> = vec![vec!["d", "x"], vec!["title", "x"], vec!["price", "1", "SAT"]];
    tags.extend(many.iter().flat_map(|name| [vec!["t", name], vec!["spec", name, "v"], vec!["image", "https://x/y"]]));
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    let advert = read(&event(kind::CLASSIFIED, &tags, &"long ".repeat(20_000)), NOW).unwrap();
    assert!(shown(&advert).iter().all(|(text, max)| text.chars().count() <= *max));
}

fn any_tags() -> impl Strategy<Value = Vec<Tag>> {
    let names = [
        "d",
        "title",
        "price",
        "t",
        "k",
        "f",
        "s",
        "fa",
        "amt",
        "pm",
        "premium",
        "y",
        "z",
        "bond",
        "stock",
        "spec",
        "shipping",
        "source",
        "e",
        "expiration",
        "anti_spam_proof",
    ];
    let values = prop_oneof![
        any::<String>(),
        "[0-9]{1,20}",
        Just("sell".to_owned()),
        Just("EUR".to_owned()),
        Just("order".to_owned()),
        Just("pending".to_owned()),
        Just("robosats".to_owned()),
        Just("\u{1b}[31m".to_owned()),
    ];
    let tag = (proptest::sample::select(names.to_vec()), proptest::collection::vec(values, 0..5)).prop_map(
        |(name, mut values)| {
            values.insert(0, name.to_owned());
            values
        },
    );
    proptest::collection::vec(tag, 0..24)
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(kind in proptest::sample::select(KINDS.to_vec()), tags in any_tags(), content in any::<String>()) {
        let unsigned = wire::Unsigned { pubkey: [0; 32], created_at: NOW, kind, tags, content };
        if let Ok(advert) = read(&sign(unsigned), NOW) {
            for (text, max) in shown(&advert) {
                prop_assert!(text.chars().count() <= max);
                prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
            }
        }
    }
}
