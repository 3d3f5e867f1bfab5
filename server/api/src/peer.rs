//! Who is at the other end of a connection, as the kernel or the TLS handshake proved it. Put into every request's
//! extensions by the accept loop; nothing a request says can change it.

use proto_tls::Svid;
use proto_types::Timestamp;
use std::{net::SocketAddr, sync::Arc};

/// The other end.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A process on this machine, by the admin socket.
    Local { uid: u32, pid: Option<i32> },
    /// By TLS; the certificate, when there is one, was verified against the bundle.
    Tls { addr: SocketAddr, cert: Option<Arc<Svid>> },
    /// By plain TCP (metrics on loopback).
    Plain,
}

impl Peer {
    /// The certificate, while it is valid: a connection that stays open does not keep its SVID alive.
    pub fn cert(&self, now: Timestamp) -> Option<&Arc<Svid>> {
        match self {
            Self::Tls { cert, .. } => cert.as_ref().filter(|c| c.not_after > now),
            Self::Local { .. } | Self::Plain => None,
        }
    }
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match self {
            Self::Tls { addr, .. } => Some(addr.ip()),
            Self::Local { .. } | Self::Plain => None,
        }
    }
}
