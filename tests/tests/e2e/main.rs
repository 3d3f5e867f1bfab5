//! Everything from outside: the real binary, real sockets, a real PostgreSQL.
//!
//! Each test names the invariants of ARCHITECTURE.md that it checks. One binary, so that the house is linked once.

mod declared;
mod exchange;
mod masks;
mod policy;
mod run;
