//! What the server needs from the outside, cut narrow: each port has one to six methods and a law in `testkit`.
//!
//! A unit of work is a value ([`Commit`]); [`Durable`] is evidence that its records are on disk, and every release
//! of a credential takes it as an argument.

mod authority;
mod duty;
mod ledger;
mod policy;
mod sink;
mod target;

pub use authority::*;
pub use duty::*;
pub use ledger::*;
pub use policy::*;
pub use proto_types::Fut;
pub use sink::*;
pub use target::*;
