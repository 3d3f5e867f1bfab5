//! Decisions of `server-core` that need a table or a simulation: CSRs, templates, the life of keys.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod corpus;
mod csr;
mod plan;
mod templates;
