//! Tasks, leases and token exchange as pure decisions.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a test that fails")]

mod exchange;
mod fixture;
mod lease;
mod narrow;
mod task;
