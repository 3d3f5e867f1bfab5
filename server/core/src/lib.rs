//! Pure decisions of the server and the ports it needs. No IO, no clock, no SQL.
//!
//! Each module decides one thing (which entries a node earns, what a certificate will say, how a lease may move);
//! `ports` names what the outside must offer. Adapters live one layer up and never name each other.

pub mod authority;
pub mod clock;
pub mod entry;
pub mod exchange;
pub mod hold;
pub mod issue;
pub mod journal;
pub mod lease;
pub mod ports;
pub mod task;
