//! The verifier against everything that must not pass, and against other implementations.

mod jwks;
mod tokens;
mod world;
mod wycheproof;
