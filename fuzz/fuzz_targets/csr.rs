//! Fuzzes the reading of certificate signing requests: `cargo fuzz run csr`.
#![no_main]

#[path = "../properties/csr.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    property::holds(data);
});
