//! The fuzz target's property of certificate chains, over its committed corpus and neighbours of it.

#[path = "../../../../fuzz/properties/chain.rs"]
mod chain;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_committed_corpus_of_chains_and_its_neighbours_hold() {
    replay::over("chain", chain::holds);
}
