//! The verifier against everything that must not pass, and against other implementations.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod corpus;
mod jwks;
mod tokens;
mod vectors;
mod world;
mod wycheproof;
