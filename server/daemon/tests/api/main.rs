//! The server's APIs from outside: a whole server on its sockets, on a clock of the test's, called by every class of caller.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod agents;
mod bad_entries;
mod bundles;
mod checkpoints;
mod configuration;
mod denials;
mod entries;
mod exports;
mod http_limits;
mod lists;
mod pruning;
mod redactions;
mod reloads;
mod replicas;
mod restores;
mod sinks;
mod wire;
mod world;
