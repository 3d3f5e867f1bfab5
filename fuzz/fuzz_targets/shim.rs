//! Fuzzes what a client may send through the shim: `cargo fuzz run shim`.
#![no_main]

#[path = "../properties/shim.rs"]
mod property;
#[path = "../../agent/daemon/src/shim/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the stream half is not driven here")]
mod shim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
