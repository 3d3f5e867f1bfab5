//! The PostgreSQL backend: any number of servers on one database. One connection of each commits in groups; a few
//! others serve what is not in memory.

pub(crate) mod archive;
mod config;
mod connect;
mod duty;
mod error;
mod feed;
mod guard;
mod heads;
pub(crate) mod index;
mod notes;
mod open;
mod proofs;
pub(crate) mod pruned;
mod remember;
pub(crate) mod schema;
mod search;
mod seen;
mod snapshot;
mod store;
mod tree;
mod write;
mod writer;

pub(crate) use connect::Connector;
pub(crate) use open::standing;
pub(crate) use sqlx::PgConnection;

pub use config::{Files, PostgresConfig};
pub use error::PostgresError;
pub use store::PostgresStore;
pub(crate) use writer::kept;
