//! No honest party loses more than the design concedes, and the guide prints what is measured.

use sim::loss::{self, Case};

/// Runs of each case. `souk-sim --losses` takes more.
const RUNS: u64 = 400;

#[test]
fn the_guide_prints_the_losses_that_are_measured() {
    let cases = Case::all();
    let (left, right) = cases.split_at(cases.len() / 2);
    let measured = std::thread::scope(|scope| {
        let half = scope.spawn(|| loss::measure(left, 1, RUNS));
        let mut all = loss::measure(right, 1, RUNS).expect("nothing above what is conceded");
        all.extend(half.join().expect("no panic").expect("nothing above what is conceded"));
        all
    });
    for (case, loss) in &measured {
        assert_eq!(*loss, loss::conceded(*case), "{case:?}: what is conceded was never lost, or the other way round");
    }
    let guide = include_str!("../../../../docs/guide/risks.md");
    let table = loss::table(&measured);
    assert!(guide.contains(&table), "docs/guide/risks.md has another table than this:\n{table}");
}
