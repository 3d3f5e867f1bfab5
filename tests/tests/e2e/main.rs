//! Everything from outside: the real binary, real sockets, a real PostgreSQL.
//!
//! Each test names the invariants of ARCHITECTURE.md that it checks. One binary, so that the house is linked once.

mod children;
mod declared;
mod entries;
mod exchange;
mod journal;
mod masks;
mod outage;
mod policy;
mod restarts;
mod run;
