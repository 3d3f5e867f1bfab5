//! The node's life: attested once, renewed at half-life, watched over one stream, its workloads' SVIDs fetched.

pub mod attest;
pub mod fetch;
pub mod journal;
pub mod kept;
pub mod life;
pub mod watch;

use std::time::Duration;

/// The longest wait between two attempts to reach the server.
pub const BACKOFF_CAP: Duration = Duration::from_secs(60);
