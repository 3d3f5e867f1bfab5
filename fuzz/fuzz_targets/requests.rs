//! Fuzzes the reading of gRPC messages: `cargo fuzz run requests`.
#![no_main]

#[path = "../properties/requests.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    property::holds(data);
});
