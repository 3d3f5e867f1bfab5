//! The fuzz targets' properties of CSRs and token requests, over their committed corpus and neighbours of it.

#[path = "../../../../fuzz/properties/csr.rs"]
mod csr;
#[path = "../../../../fuzz/properties/exchange_form.rs"]
mod exchange_form;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_committed_corpus_of_csrs_and_its_neighbours_hold() {
    replay::over("csr", csr::holds);
}

#[test]
fn the_committed_corpus_of_token_requests_and_its_neighbours_hold() {
    replay::over("exchange_form", exchange_form::holds);
}
