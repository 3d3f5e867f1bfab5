//! Targets against real servers. One binary; each test starts its own PostgreSQL and leaves nothing behind.

mod aws;
mod check;
mod documents;
mod faults;
mod hostile;
mod life;
mod masks;
mod revoke;
mod ssh;
mod tls;
mod world;
