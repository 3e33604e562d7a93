//! No honest party loses more than the design concedes, and the guide prints what is measured.

use sim::loss::{self, Case, Liar};

/// Runs of each case. `souk-sim --losses` takes more.
const RUNS: u64 = 400;
/// Runs of a quarrel, in which the worst takes a rare row of coincidences.
const QUARRELS: u64 = 1600;

#[test]
fn the_guide_prints_the_losses_that_are_measured() {
    let (quarrels, others): (Vec<Case>, Vec<Case>) =
        Case::all().into_iter().partition(|case| case.liar == Liar::ArbiterInQuarrel);
    let (mut measured, quarreled) = std::thread::scope(|scope| {
        let quarreled = scope.spawn(|| loss::measure(&quarrels, 1, QUARRELS));
        let measured = loss::measure(&others, 1, RUNS).expect("nothing above what is conceded");
        (measured, quarreled.join().expect("no panic").expect("nothing above what is conceded"))
    });
    for (case, loss) in quarreled {
        let worst = measured.entry(case).or_default();
        *worst = worst.max(loss);
    }
    for (case, loss) in &measured {
        assert_eq!(*loss, loss::conceded(*case), "{case:?}: what is conceded was never lost, or the other way round");
    }
    let guide = include_str!("../../../../docs/guide/risks.md");
    let table = loss::table(&measured);
    assert!(guide.contains(&table), "docs/guide/risks.md has another table than this:\n{table}");
}
