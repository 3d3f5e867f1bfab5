//! Where the ledger lies on disk: SQLite, embedded.
//!
//! Decides how a unit of work becomes durable, in which order, and what a store refuses to open. Does not decide what
//! a record says or how it is hashed (`server-core::journal`), nor what may be committed (`server-service`).

mod sqlite;

pub use sqlite::{OpenError, OpenOptions, SqliteStore};
