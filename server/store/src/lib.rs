//! Where the ledger lies: SQLite, embedded, or PostgreSQL, shared by several servers.
//!
//! Decides how a unit of work becomes durable, in which order, and what a store refuses to open. Does not decide what
//! a record says or how it is hashed (`server-core::journal`), nor what may be committed (`server-service`).

mod backup;
mod compare;
mod copy;
mod options;
mod port;
mod postgres;
mod rows;
mod shared;
mod sqlite;
mod tree;
mod unit;

pub use backup::{Backup, BackupError, backup, restore};
pub use compare::{CompareError, Comparison, compare};
pub use copy::{Copied, CopyError, Progress, copy};
pub use options::{OpenOptions, StorePlace};
pub use port::{Store, verify};
pub use postgres::{Files, PostgresConfig, PostgresError, PostgresStore};
pub use sqlite::{OpenError, SqliteStore};
