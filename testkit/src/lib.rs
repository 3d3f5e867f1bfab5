//! Fakes, and the law of each port: what every adapter behind it must keep.
//!
//! Depends on nouns and ports only, so that any adapter may be held to it from its own tests.

pub mod disk;
pub mod dns;
pub mod fakes;
pub mod ledger_law;
pub mod openssh;
pub mod poll;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod python;
pub mod signers;
pub mod sts;
pub mod target_law;
