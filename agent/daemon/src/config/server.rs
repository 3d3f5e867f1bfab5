//! `server`: where the servers are, `host:port` each.

use super::reader::Reader;
use proto_types::id::excerpt;
use rustls_pki_types::ServerName;
use std::fmt;

/// Most addresses in the list.
const MAX_SERVERS: usize = 64;

/// One server's address. The name is only for finding it: who answers is proved by its SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    pub host: String,
    pub port: u16,
}

impl ServerAddress {
    /// Reads `host:port`, `192.0.2.1:8081` or `[2001:db8::1]:8081`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|p| *p != 0)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').filter(|h| h.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => host,
        };
        ServerName::try_from(host).ok()?;
        Some(Self { host: host.into(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

pub(super) fn read(r: &mut Reader<'_>) -> Vec<ServerAddress> {
    let texts = r.strings("server");
    if texts.is_empty() {
        r.problem("server", "is missing; write for example server = [\"errand.example.org:8081\"]");
    }
    if texts.len() > MAX_SERVERS {
        r.problem("server", format!("at most {MAX_SERVERS} addresses"));
        return Vec::new();
    }
    let mut addresses = Vec::new();
    for text in texts {
        match ServerAddress::parse(&text) {
            Some(address) => addresses.push(address),
            None => r.problem("server", format!("`{}` is not an address; write host:port", excerpt(&text))),
        }
    }
    addresses
}
