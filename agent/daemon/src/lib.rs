//! The node agent: attested once to the server, then the witness of what runs here.
//!
//! Composes `agent-core`'s decisions and `agent-workload`'s view of the kernel with sockets, disk and the way to the
//! server. Decides no entitlement: entries come from the server, selectors from the kernel. Has no process-wide state; a
//! process may run several agents.

mod bundle;
pub mod config;
mod disk;
mod identities;
mod identity;
mod keys;
mod local;
mod node;
mod ports;
mod shared;
pub mod shim;
mod start;
mod tasks;
mod trouble;
mod upstream;
mod workload_api;
mod x509;

pub use config::{AgentConfig, ConfigProblem};
pub use disk::DiskError;
pub use local::path::SocketPathError;
pub use ports::Ports;
pub use shared::AgentStatus;
pub use start::{Agent, Running, StartError};
