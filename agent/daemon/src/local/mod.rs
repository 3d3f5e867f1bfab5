//! The agent's own socket: opened safely, its peers pinned by the kernel as they connect, each with its share and no more.
//!
//! What a peer is served is `workload_api`'s and `tasks`'.

pub mod admit;
pub mod attest;
mod conn;
mod explain;
pub mod info;
pub mod path;
mod serve;
pub mod stream;

pub use conn::{LocalConn, Peer};
pub use serve::serve;
