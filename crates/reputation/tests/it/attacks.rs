//! What an attacker gains by having many keys: in DOMP's score, and in standing with honest people. The guide prints the table.

use std::collections::{BTreeMap, BTreeSet};

use reputation::{Acquaintance, Rating, Score, Subject, Web};
use trade::PartyKey;
use units::Sat;

use crate::scores::{named, rated};

const BUYERS: u32 = 200;
const SHOPS: u32 = 20;
/// Trades of each buyer.
const TRADES: u32 = 6;
/// Buyers from whose place it is looked at.
const VIEWERS: u32 = 10;
/// A shop that serves everybody well, and one that cheats.
const GOOD: u32 = 1000;
const BAD: u32 = 1000 + SHOPS;
/// Keys of the attacker: the one it trades honestly with, and those it invents.
const FACE: u32 = 5000;
const INVENTED: u32 = 10_000;
/// What invented trades are worth: they cost nothing.
const INVENTED_SAT: u64 = 1_000_000;

/// Numbers that are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(n)).unwrap()
    }
}

/// A market of honest buyers and shops, and one shop that cheated twenty of them.
struct Market {
    ratings: Vec<Rating>,
    settled: BTreeMap<u32, BTreeMap<u32, u64>>,
}

impl Market {
    fn open() -> Market {
        let mut market = Market { ratings: Vec::new(), settled: BTreeMap::new() };
        let mut dice = Dice(7);
        for buyer in 0..BUYERS {
            for _ in 0..TRADES {
                let (shop, sat) = (GOOD + dice.below(SHOPS), [10_000, 20_000, 50_000, 100_000][dice.below(4) as usize]);
                market.trade(buyer, shop, 4 + u8::from(dice.below(3) > 0), sat);
            }
        }
        for _ in 0..20 {
            market.trade(VIEWERS + dice.below(BUYERS - VIEWERS), BAD, 1, 50_000);
        }
        market
    }

    /// Both sides settle; the buyer rates so, the shop is content.
    fn trade(&mut self, buyer: u32, shop: u32, rating: u8, sat: u64) {
        for (one, other) in [(buyer, shop), (shop, buyer)] {
            *self.settled.entry(one).or_default().entry(other).or_default() += sat;
        }
        self.say(buyer, shop, rating, sat);
        self.say(shop, buyer, 5, sat);
    }

    fn say(&mut self, rater: u32, subject: u32, rating: u8, sat: u64) {
        let n = u32::try_from(self.ratings.len()).unwrap();
        self.ratings.push(rated(n, named(rater), named(subject), rating, sat));
    }

    fn score(&self, of: u32) -> f64 {
        let subject = Subject::User(named(of));
        Score::of(self.ratings.iter().filter(|r| r.subject == subject)).rating().unwrap_or(3.0)
    }

    /// Mean over the viewers.
    fn standing(&self, of: u32) -> f64 {
        let one = |viewer: u32| {
            let known: Vec<_> =
                self.settled.get(&viewer).into_iter().flatten().map(|(key, sat)| known(*key, *sat)).collect();
            let me: PartyKey = named(viewer);
            let web = Web::new(me, &BTreeSet::from([me]), &known, &self.ratings);
            web.standing(&Subject::User(named(of))).rating
        };
        (0..VIEWERS).map(one).sum::<f64>() / f64::from(VIEWERS)
    }
}

fn known(key: u32, sat: u64) -> Acquaintance {
    Acquaintance { key: named(key), value: Sat(sat) }
}

/// `keys` keys praise the attacker's shop, and each other.
fn praise(market: &mut Market, keys: u32, shop: u32) {
    for n in 0..keys {
        market.say(INVENTED + n, shop, 5, INVENTED_SAT);
        market.say(INVENTED + n, INVENTED + (n + 1) % keys, 5, INVENTED_SAT);
    }
}

/// The attacker's face trades honestly with somebody, and vouches for its keys.
fn befriend(market: &mut Market, keys: u32, friends: impl IntoIterator<Item = u32>) {
    friends.into_iter().for_each(|friend| market.trade(friend, FACE, 5, 50_000));
    (0..keys).for_each(|n| market.say(FACE, INVENTED + n, 5, INVENTED_SAT));
}

type Attack = (&'static str, u32, &'static [u32], fn(&mut Market, u32));

const MANY: &[u32] = &[1, 10, 100, 1000];

const ATTACKS: [Attack; 7] = [
    ("a cheat praises itself", BAD, MANY, |market, keys| praise(market, keys, BAD)),
    ("a newcomer praises itself", FACE + 1, MANY, |market, keys| praise(market, keys, FACE + 1)),
    ("… its other key served 10 buyers well, and vouches for the rest", BAD, MANY, |market, keys| {
        praise(market, keys, BAD);
        befriend(market, keys, VIEWERS..VIEWERS + 10);
    }),
    ("… its other key served each of those who look, and vouches for the rest", BAD, MANY, |market, keys| {
        praise(market, keys, BAD);
        befriend(market, keys, 0..VIEWERS);
    }),
    ("… its other key served each of those who look, and praises it itself", BAD, &[1], |market, _| {
        befriend(market, 0, 0..VIEWERS);
        market.say(FACE, BAD, 5, INVENTED_SAT);
    }),
    ("buys from a good shop with each key for 1,000 sat, and slanders it", GOOD, MANY, |market, keys| {
        (0..keys).for_each(|n| market.say(INVENTED + n, GOOD, 1, 1000));
    }),
    ("… for 1,000,000 sat each", GOOD, MANY, |market, keys| {
        (0..keys).for_each(|n| market.say(INVENTED + n, GOOD, 1, INVENTED_SAT));
    }),
];

fn table() -> (String, Vec<[f64; 4]>) {
    let mut text = String::from("| attacker | keys | DOMP score | standing |\n|---|---|---|---|\n");
    let (mut all, honest) = (Vec::new(), Market::open());
    for (name, subject, counts, attack) in ATTACKS {
        let before = [honest.score(subject), honest.standing(subject)];
        for keys in counts {
            let mut market = Market::open();
            attack(&mut market, *keys);
            let after = [market.score(subject), market.standing(subject)];
            let [score, standing] = [0, 1].map(|i| format!("{:.2} → {:.2}", before[i], after[i]));
            text += &format!("| {name} | {keys} | {score} | {standing} |\n");
            all.push([before[0], after[0], before[1], after[1]]);
        }
    }
    (text, all)
}

#[test]
fn the_guide_prints_what_many_keys_gain() {
    let (table, all) = table();
    // One word of somebody whom the viewer knows itself does more for a cheat than any number of keys.
    let own_word = all[16][3];
    for [score, _, standing, with_keys] in &all {
        let (good, bad) = (*standing > 4.0, *standing < 2.9);
        assert!(!bad || *with_keys <= own_word, "a cheat of {score} stands at {with_keys}:\n{table}");
        assert!(!good || *with_keys > 4.1, "a good shop of {score} stands at {with_keys}:\n{table}");
    }
    assert!(own_word < 4.1, "the cheat stands as well as a good shop:\n{table}");
    let guide = include_str!("../../../../docs/guide/reputation.md");
    assert!(guide.contains(&table), "docs/guide/reputation.md has another table than this:\n{table}");
}
