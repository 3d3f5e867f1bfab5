//! `errand run` and `errand exchange` as whole programs, against an agent and a server that say what the test needs.

mod commands;
mod credentials;
mod ending;
mod exchange;
mod failures;
mod kill;
mod loopback;
mod signals;
mod ssh;
