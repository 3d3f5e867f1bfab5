//! Everything from outside: the real binary, real sockets, a real PostgreSQL.
//!
//! Each test names the invariants of ARCHITECTURE.md that it checks. One binary, so that the house is linked once.

#![expect(clippy::unwrap_used, reason = "a test that finds nothing where something must be has failed")]

mod agent_deaths;
mod agent_limits;
mod apply;
mod aws;
mod canary;
mod children;
mod declared;
mod deploy;
mod dev;
mod entries;
mod exchange;
mod explain;
mod holds;
mod journal;
mod kek;
mod layers;
mod masks;
mod oauth;
mod outage;
mod peers;
mod policy;
mod restarts;
mod run;
mod ssh;
mod three_servers;
mod x509pop;
