//! The SQLite backend: one thread owns the write connection and commits in groups; a few read-only connections serve
//! what is not in memory.

pub(crate) mod archive;
mod check;
mod error;
mod feed;
mod guard;
mod notes;
mod open;
mod outlets;
mod pool;
mod proofs;
pub(crate) mod pruned;
mod rows;
pub(crate) mod schema;
mod search;
mod snapshot;
mod store;
mod tree;
mod write;
mod writer;

pub use error::OpenError;
pub(crate) use open::beside;
pub use store::SqliteStore;
