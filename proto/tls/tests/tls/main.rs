//! The verifier against chains that must not pass, against what they may cost, and against the vectors of others.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod chains;
mod corpus;
mod cost;
mod house;
#[path = "../../../jose/tests/jose/vectors.rs"]
mod vectors;
mod wycheproof;
