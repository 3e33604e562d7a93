//! Losses: what an honest party can lose at most, by the deal and by who lies, as the design concedes it and as runs measure it.

use std::collections::BTreeMap;

use trade::{EscrowTerms, LegId, Mode, OnSilence, PartyKey, Step, Trade, TradeId};
use units::{Height, Msat, PaymentHash, Sat};

use crate::lightning::{Hold, Sent};
use crate::run::{Setup, run_with};
use crate::world::World;

/// Price of every deal that losses are measured with, and the worth of the goods to either side.
pub const PRICE: Sat = Sat(20_000);
/// The payer's bond where there are bonds: at least the price.
pub const PAYER_BOND: Sat = Sat(21_000);
/// The payee's bond where there are bonds: a tenth of the price.
pub const PAYEE_BOND: Sat = Sat(2_000);

/// Terms that differ in what they protect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deal {
    /// Who protects whom.
    pub mode: Protection,
    /// The arbiter holds the price secrets.
    pub arbiter_release: bool,
    /// What silence means.
    pub on_silence: Silence,
}

/// [`Mode`], with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// No arbiter.
    Direct,
    /// An arbiter, no bonds.
    Arbitrated,
    /// An arbiter and both bonds.
    Bonded,
}

/// [`OnSilence`], with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// The price goes back.
    Refund,
    /// The arbiter gives it to the payee.
    Release,
}

impl Deal {
    /// All that are possible.
    pub const ALL: [Deal; 7] = [
        Deal { mode: Protection::Direct, arbiter_release: false, on_silence: Silence::Refund },
        Deal { mode: Protection::Arbitrated, arbiter_release: false, on_silence: Silence::Refund },
        Deal { mode: Protection::Arbitrated, arbiter_release: true, on_silence: Silence::Refund },
        Deal { mode: Protection::Arbitrated, arbiter_release: true, on_silence: Silence::Release },
        Deal { mode: Protection::Bonded, arbiter_release: false, on_silence: Silence::Refund },
        Deal { mode: Protection::Bonded, arbiter_release: true, on_silence: Silence::Refund },
        Deal { mode: Protection::Bonded, arbiter_release: true, on_silence: Silence::Release },
    ];

    /// The deal as the terms of a listing.
    pub fn terms(self, arbiter: PartyKey, lock_blocks: u16, tranches: u8) -> EscrowTerms {
        let bonded = self.mode == Protection::Bonded;
        EscrowTerms {
            mode: match self.mode {
                Protection::Direct => Mode::Direct,
                Protection::Arbitrated => Mode::Arbitrated,
                Protection::Bonded => Mode::Bonded,
            },
            arbiters: if self.mode == Protection::Direct { Vec::new() } else { vec![arbiter] },
            arbiter_release: self.arbiter_release,
            min_payer_bond: if bonded { PAYER_BOND } else { Sat::ZERO },
            payee_bond: if bonded { PAYEE_BOND } else { Sat::ZERO },
            lock_blocks,
            tranches,
            on_silence: match self.on_silence {
                Silence::Refund => OnSilence::Refund,
                Silence::Release => OnSilence::Release,
            },
        }
    }
}

/// Who lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liar {
    /// Nobody.
    Nobody,
    /// The payer alone.
    Payer,
    /// The payee alone.
    Payee,
    /// The arbiter alone, and the two others have nothing to quarrel about.
    Arbiter,
    /// The arbiter alone, and the two others have: goods were lost on the way, or one of them disputed as nothing was sent in time.
    ArbiterInQuarrel,
    /// The payer, and the arbiter with it.
    PayerAndArbiter,
    /// The payee, and the arbiter with it.
    PayeeAndArbiter,
}

impl Liar {
    /// All of them.
    pub const ALL: [Liar; 7] = [
        Liar::Nobody,
        Liar::Payer,
        Liar::Payee,
        Liar::Arbiter,
        Liar::ArbiterInQuarrel,
        Liar::PayerAndArbiter,
        Liar::PayeeAndArbiter,
    ];

    /// Does party `who` (0 payer, 1 payee, 2 arbiter) lie?
    pub fn includes(self, who: usize) -> bool {
        match self {
            Liar::Nobody => false,
            Liar::Payer => who == 0,
            Liar::Payee => who == 1,
            Liar::Arbiter | Liar::ArbiterInQuarrel => who == 2,
            Liar::PayerAndArbiter => who != 1,
            Liar::PayeeAndArbiter => who != 0,
        }
    }

    /// Can it lie in this deal?
    pub fn fits(self, deal: Deal) -> bool {
        deal.mode != Protection::Direct || !self.includes(2)
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Liar::Nobody => "nobody",
            Liar::Payer => "payer",
            Liar::Payee => "payee",
            Liar::Arbiter => "arbiter",
            Liar::ArbiterInQuarrel => "arbiter, in a quarrel",
            Liar::PayerAndArbiter => "payer + arbiter",
            Liar::PayeeAndArbiter => "payee + arbiter",
        }
    }
}

/// A deal and who lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The deal.
    pub deal: Deal,
    /// Who lies.
    pub liar: Liar,
}

impl Case {
    /// Every case there is.
    pub fn all() -> Vec<Case> {
        let cases = Deal::ALL.into_iter().flat_map(|deal| Liar::ALL.into_iter().map(move |liar| Case { deal, liar }));
        cases.filter(|case| case.liar.fits(case.deal)).collect()
    }
}

/// What a party is short of, goods counted at their price. Miners' fees are counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// An honest payer.
    pub payer: Sat,
    /// An honest payee.
    pub payee: Sat,
}

impl Loss {
    /// The larger of both, party by party.
    pub fn max(self, other: Loss) -> Loss {
        Loss { payer: self.payer.max(other.payer), payee: self.payee.max(other.payee) }
    }

    fn within(self, bound: Loss) -> bool {
        self.payer <= bound.payer && self.payee <= bound.payee
    }
}

/// What the design concedes (10-escrow §1, §8): without a hold on the price secrets a payee relies on the payer or on its bond;
/// an arbiter can move what it holds the secrets of to the side that it colludes with, or to any side that the two
/// let it decide between.
pub fn conceded(case: Case) -> Loss {
    let bonded = case.deal.mode == Protection::Bonded;
    let payer_bond = if bonded { PAYER_BOND } else { Sat::ZERO };
    let payee_bond = if bonded { PAYEE_BOND } else { Sat::ZERO };
    let held_price = if case.deal.arbiter_release { PRICE } else { Sat::ZERO };
    let none = Loss::default();
    match case.liar {
        Liar::Nobody | Liar::Payee | Liar::Arbiter => none,
        // Goods that were lost on the way are the payee's loss when no secret of the price is at the arbiter, whoever rules.
        Liar::ArbiterInQuarrel => Loss { payer: Sat(held_price.0 + payer_bond.0), payee: Sat(PRICE.0 + payee_bond.0) },
        Liar::Payer if case.deal.arbiter_release => none,
        Liar::Payer => Loss { payee: Sat(PRICE.0.saturating_sub(payer_bond.0)), ..none },
        Liar::PayerAndArbiter => Loss { payee: Sat(PRICE.0 + payee_bond.0), ..none },
        Liar::PayeeAndArbiter => Loss { payer: Sat(held_price.0 + payer_bond.0), ..none },
    }
}

/// Goods that an honest payee, or a liar in a generous mood, sent.
#[derive(Clone, Copy, Debug)]
pub struct Goods {
    /// When they arrive, or arrived; never, when they are lost on the way.
    pub arrive: Option<Height>,
}

/// What one trade cost its honest parties.
pub fn of_trade(world: &World, payer: Option<&Trade>, payee: Option<&Trade>) -> Loss {
    let short = |who: usize, trade: &Trade| {
        let node = &world.net.nodes[who];
        let amount = |amount: Msat| i128::from(amount.0 / 1000);
        let moved = |(hash, _): &(PaymentHash, LegId)| {
            let got = node.holds.get(hash).filter(|h| h.state == Hold::Settled).map_or(0, |h| amount(h.amount));
            let gave = node.payments.get(hash).filter(|p| matches!(p.state, Sent::Taken(_)));
            got - gave.map_or(0, |p| amount(p.amount))
        };
        let money: i128 = trade.dossier().all_hashes().iter().map(moved).sum();
        let price = i128::from(trade.dossier().price.0);
        let balance = match (who, world.goods.get(&trade.id())) {
            (0, Some(Goods { arrive: Some(_) })) => money + price,
            (1, Some(_)) => money - price,
            _ => money,
        };
        Sat(u64::try_from(-balance).unwrap_or(0))
    };
    let honest = |who: usize, trade: Option<&Trade>| {
        trade.filter(|_| !world.liar.includes(who)).map_or(Sat::ZERO, |trade| short(who, trade))
    };
    Loss { payer: honest(0, payer), payee: honest(1, payee) }
}

/// The case that a trade came to be: with an arbiter that lies alone it matters whether there was anything to rule on.
pub fn case_of(world: &World, case: Case, trade: TradeId) -> Case {
    let quarrel = || {
        let lost = world.goods.get(&trade).is_some_and(|goods| goods.arrive.is_none());
        let honest = world.keys.iter().filter(|(_, who)| !world.liar.includes(*who));
        let said = |key| world.relay.published(trade, key, |s| s == Step::Dispute).next().is_some();
        lost || honest.into_iter().any(|(key, _)| said(*key))
    };
    let liar = match case.liar {
        Liar::Arbiter | Liar::ArbiterInQuarrel if quarrel() => Liar::ArbiterInQuarrel,
        Liar::Arbiter | Liar::ArbiterInQuarrel => Liar::Arbiter,
        other => other,
    };
    Case { liar, ..case }
}

/// A loss above what is conceded, in words.
pub fn excess(case: Case, trade: TradeId, loss: Loss) -> Option<String> {
    let bound = conceded(case);
    (!loss.within(bound)).then(|| {
        format!("{trade}: with {} lying in {:?} it lost {loss:?}, conceded is {bound:?}", case.liar.name(), case.deal)
    })
}

/// The largest loss of each case over `seeds` runs of it, beginning with seed `from`; the first run that broke an invariant, if one did.
pub fn measure(cases: &[Case], from: u64, seeds: u64) -> Result<BTreeMap<Case, Loss>, Setup> {
    let mut table: BTreeMap<Case, Loss> = cases.iter().map(|case| (*case, Loss::default())).collect();
    for case in cases {
        for seed in from..from + seeds {
            let setup = Setup { seed, case: Some(*case), ..Setup::default() };
            let report = run_with(&setup);
            if report.violation.is_some() {
                return Err(setup);
            }
            for (came_to, loss) in report.losses {
                let worst = table.entry(came_to).or_default();
                *worst = worst.max(loss);
            }
        }
    }
    Ok(table)
}

/// The measured losses as a table in Markdown.
pub fn table(measured: &BTreeMap<Case, Loss>) -> String {
    let mut text = String::from(
        "| deal | price secrets at the arbiter | on silence | who lies | an honest payer loses | an honest payee loses |\n\
         |---|---|---|---|---|---|\n",
    );
    for (case, loss) in measured {
        let lies = |who| case.liar.includes(who);
        let amount = |who: usize, sat: Sat| if lies(who) { "-".to_owned() } else { in_words(sat) };
        let (payer, payee) = (amount(0, loss.payer), amount(1, loss.payee));
        let held = if case.deal.arbiter_release { "yes" } else { "no" };
        let (mode, silence) =
            (format!("{:?}", case.deal.mode).to_lowercase(), format!("{:?}", case.deal.on_silence).to_lowercase());
        let name = case.liar.name();
        text.push_str(&format!("| {mode} | {held} | {silence} | {name} | {payer} | {payee} |\n"));
    }
    text
}

fn in_words(sat: Sat) -> String {
    let known = [
        (Sat::ZERO, "nothing"),
        (PRICE, "the price"),
        (PAYER_BOND, "the payer's bond"),
        (Sat(PRICE.0 + PAYER_BOND.0), "the price and the payer's bond"),
        (Sat(PRICE.0 + PAYEE_BOND.0), "the price and the payee's bond"),
    ];
    known.iter().find(|(amount, _)| *amount == sat).map_or_else(|| format!("{} sat", sat.0), |(_, w)| (*w).to_owned())
}
