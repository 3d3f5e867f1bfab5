//! The client's side: keys, TLS, channels, one attested node, one kept connection to the token endpoint.

pub mod channel;
pub mod keys;
pub mod node;
pub mod rpc;
pub mod tls;
pub mod token;
