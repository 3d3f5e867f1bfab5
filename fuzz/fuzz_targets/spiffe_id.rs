//! Fuzzes the reading of SPIFFE IDs: `cargo fuzz run spiffe_id`.
#![no_main]

#[path = "../properties/spiffe_id.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    property::holds(data);
});
