//! The client's side: keys, TLS, channels, one attested node, kept connections to the token endpoint and to anything that speaks HTTP.

pub mod channel;
pub mod http;
pub mod keys;
pub mod node;
pub mod rpc;
pub mod tls;
pub mod token;
