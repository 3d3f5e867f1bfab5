//! Everything from outside: the real binary, real sockets, a real PostgreSQL.
//!
//! Each test names the invariants of ARCHITECTURE.md that it checks. One binary, so that the house is linked once.

mod canary;
mod children;
mod declared;
mod deploy;
mod entries;
mod exchange;
mod journal;
mod layers;
mod masks;
mod outage;
mod peers;
mod policy;
mod restarts;
mod run;
