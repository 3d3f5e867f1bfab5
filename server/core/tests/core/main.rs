//! Decisions of `server-core` that need a table or a simulation: CSRs, templates, the life of keys.

mod csr;
mod plan;
mod templates;
