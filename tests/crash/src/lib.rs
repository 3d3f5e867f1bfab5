//! Kill points and races: a server that dies at a named step, a client that writes down what it saw, and the program
//! that compares what was seen with journal, store and target.
//!
//! Nothing of it is part of the product. Reaches into a server through [`server_daemon::Decorators`] only.

pub mod check;
pub mod client;
pub mod evidence;
pub mod point;
pub mod seen;
pub mod world;
