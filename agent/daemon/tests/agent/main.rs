//! The agent against a server that speaks the same services over real TLS on loopback: what a node, its workloads and
//! its tasks live through. The server is scripted; the kernel, the sockets, the disk and the cryptography are real.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ca;
mod clocks;
mod configuration;
mod data_dir;
mod explain;
mod fake;
mod helper;
mod journal;
mod link;
mod node_life;
mod servers;
mod services;
mod sockets;
mod task_life;
mod unimplemented;
mod unwritable;
mod workload_api;
mod world;
