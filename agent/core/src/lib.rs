//! The agent's decisions, without IO: who may be served what, when to renew, which task a process is in.
//!
//! Everything here is a function of its arguments; time and randomness come in as values. Sockets, `/proc` and the
//! server are `agent-workload` and `agent-daemon`.

pub mod admission;
pub mod attest;
pub mod cache;
pub mod journal;
pub mod membership;
pub mod rotation;
pub mod servers;
pub mod skew;

pub use attest::{AttestError, Caller, CallerError, WorkloadAttestor};
