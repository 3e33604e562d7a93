//! The seeds of the fuzz targets, replayed as they are and damaged.

use std::path::Path;

use proptest::prelude::*;

type Target = fn(&[u8]);

const TARGETS: [(&str, &[Target]); 7] = [
    ("frames", &[wire::fuzz::client_frame, wire::fuzz::relay_frame, board::fuzz::frames]),
    ("filters", &[wire::fuzz::filter]),
    ("negentropy", &[board::fuzz::negentropy]),
    ("session", &[board::fuzz::session]),
    ("sync", &[board::fuzz::sync]),
    ("credentials", &[credential::fuzz::said]),
    ("signatures", &[bip340::fuzz::answers, bip340::fuzz::products]),
];

/// All seeds of all targets.
fn corpus() -> Vec<(&'static [Target], Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let seeds = |name: &str| {
        let files = std::fs::read_dir(root.join(name)).unwrap().map(|file| file.unwrap().path());
        let seeds: Vec<Vec<u8>> = files.map(|file| std::fs::read(file).unwrap()).collect();
        assert!(seeds.len() >= 3, "{name} has {} seeds", seeds.len());
        seeds
    };
    TARGETS.iter().flat_map(|(name, targets)| seeds(name).into_iter().map(|seed| (*targets, seed))).collect()
}

#[test]
fn the_seeds_pass() {
    for (targets, seed) in corpus() {
        targets.iter().for_each(|target| target(&seed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_seeds_make_no_target_panic(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        for (targets, mut seed) in corpus() {
            for (at, byte, how) in &cuts {
                if seed.is_empty() {
                    continue;
                }
                let at = at.index(seed.len());
                match how {
                    0 => seed[at] = *byte,
                    1 => seed.truncate(at),
                    _ => seed.insert(at, *byte),
                }
            }
            targets.iter().for_each(|target| target(&seed));
        }
    }

    #[test]
    fn no_bytes_make_negentropy_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut message = vec![0x61];
        message.extend(tail);
        board::fuzz::negentropy(&message);
    }
}
