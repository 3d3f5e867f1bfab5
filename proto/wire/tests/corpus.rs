//! The fuzz target's property of gRPC messages, over its committed corpus and neighbours of it.

#[path = "../../../fuzz/properties/requests.rs"]
mod property;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_committed_corpus_of_messages_and_its_neighbours_hold() {
    replay::over("requests", property::holds);
}
