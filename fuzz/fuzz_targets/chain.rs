//! Fuzzes the verifying of certificate chains: `cargo fuzz run chain`.
#![no_main]

#[path = "../properties/chain.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    property::holds(data);
});
