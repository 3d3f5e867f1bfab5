//! The kernel as witness: who is at the other end of a socket, what it runs, and which task it is in.
//!
//! One folder per workload attestor. Decides what is true of a process now; what that earns is `agent-core`'s and the
//! server's. A path and a hash are only as strong as the uid: who may write the file or trace the process can be it.

pub mod boot;
pub mod chain;
pub mod hash;
pub mod measure;
pub mod pin;
pub mod proc;
pub mod unix;
mod witness;

pub use boot::boot_id;
pub use hash::Hasher;
pub use measure::{Measured, measure};
pub use pin::{PinError, PinnedCaller};
pub use unix::UnixAttestor;
pub use witness::{PeerPidfd, Witness, WitnessError};
