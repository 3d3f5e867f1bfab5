//! Fuzzes the reading of page tokens: `cargo fuzz run page_token`.
#![no_main]

#[path = "../../server/api/src/grpc/page.rs"]
#[allow(dead_code, reason = "the pages themselves are not driven here")]
mod page;
#[path = "../properties/page_token.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    property::holds(data, page::read_token, page::write_token);
});
