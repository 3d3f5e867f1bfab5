//! Fuzzes the reading of token requests: `cargo fuzz run exchange_form`.
#![no_main]

#[path = "../properties/exchange_form.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    property::holds(data);
});
