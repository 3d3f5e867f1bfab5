//! Asking somebody else over HTTP: one request over one connection, no redirect, no proxy, a bounded answer.
//!
//! Decides which URLs may be asked (https, or http that stays on this machine), whom TLS trusts, and that a bearer token
//! goes to the configured host only, after TLS has verified it. What is asked, and how long it may take, is the caller's:
//! dropped, the connection is closed.

mod client;
mod endpoint;
mod trust;

pub use client::{Client, Question, Reply};
pub use endpoint::Endpoint;
pub use hyper::{Method, StatusCode};
pub use trust::{Trust, token};
