//! What the end-to-end tests are written in: a small world of real components.
//!
//! [`world::World`] is one server, one node with its agent, and an operator at the command line, in temporary
//! directories and on free ports of 127.0.0.1. Decides how they are put together; what must hold is the tests'.

pub mod world;
