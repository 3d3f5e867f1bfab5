//! Fuzzes the reading of `/proc/PID/status`: `cargo fuzz run proc_status`.
#![no_main]

#[path = "../properties/proc_status.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
