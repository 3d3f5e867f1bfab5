//! The fuzz target's property of tokens and key sets, over its committed corpus and neighbours of it.

#[path = "../../../../fuzz/properties/jwt.rs"]
mod jwt;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_committed_corpus_of_tokens_and_key_sets_and_its_neighbours_hold() {
    replay::over("jwt", jwt::holds);
}
