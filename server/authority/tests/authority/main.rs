//! Keys at work: sealed, rotated, signing, and checked by a reader that is not ours (the `openssl` command).
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod house;
mod keys;
mod mint;
mod rotation;
