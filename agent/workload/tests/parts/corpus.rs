//! The fuzz targets' properties over their committed corpus, and over random neighbours of it.

use proptest::{prelude::*, test_runner::RngSeed};
use std::path::PathBuf;

#[path = "../../../../fuzz/properties/proc_stat.rs"]
mod proc_stat;
#[path = "../../../../fuzz/properties/proc_status.rs"]
mod proc_status;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", name].iter().collect();
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5);
    files.iter().map(|f| std::fs::read(f).unwrap()).collect()
}

#[test]
fn the_committed_corpus_holds() {
    corpus("proc_stat").iter().for_each(|data| proc_stat::holds(data));
    corpus("proc_status").iter().for_each(|data| proc_status::holds(data));
}

/// The same cases each time.
fn seeded() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(seeded())]
    #[test]
    fn neighbours_of_the_corpus_hold(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (name, holds) in [("proc_stat", proc_stat::holds as fn(&[u8])), ("proc_status", proc_status::holds)] {
            let all = corpus(name);
            let mut data = all[which.index(all.len())].clone();
            for (at, byte) in &changes {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            holds(&data);
        }
    }
}
