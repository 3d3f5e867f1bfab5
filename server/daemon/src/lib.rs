//! The server's composition root: the only crate of the server that names adapters.
//!
//! [`Server::start`] opens the store and the keys, builds the service on them, binds every listener and answers
//! [`Running`]. No process-wide global is touched, so that several servers run in one process (tests, `errand dev`).

mod admin;
mod config;
mod jobs;
mod rekey;
mod reload;
mod rotator;
mod socket;
mod start;

pub use config::{ConfigProblem, Listen, ServerConfig};
pub use rekey::{RekeyError, rekey_store};
pub use server_store::StorePlace;
pub use start::{Addresses, Decorators, Machine, Running, Server, StartError, existing_store, open_store};

/// What is done to a store without a server: the command line reaches it through the composition, as everything else.
pub use server_store as store;
