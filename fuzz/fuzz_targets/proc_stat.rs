//! Fuzzes the reading of `/proc/PID/stat`: `cargo fuzz run proc_stat`.
#![no_main]

#[path = "../properties/proc_stat.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
