//! One file per group of rows: what is done, how often, and which target it has.

pub mod entry;
pub mod errands;
pub mod exchange;
pub mod ledger;
pub mod svid;
pub mod verify;
