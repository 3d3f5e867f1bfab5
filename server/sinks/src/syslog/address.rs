//! Where a syslog daemon listens: a socket of this machine, or a host and port.

use std::{fmt, net::Ipv6Addr, path::PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A unix datagram socket.
    Unix(PathBuf),
    Tcp(Place),
    Udp(Place),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A name, or an IP address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// The path of a socket is checked by who reads the section.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once(':') {
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", rest)) => Place::parse(rest).map(Self::Tcp),
            Some(("udp", rest)) => Place::parse(rest).map(Self::Udp),
            _ => Err("is unix:/PATH, tcp://HOST:PORT or udp://HOST:PORT"),
        }
    }
}

impl Place {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let authority = text.strip_prefix("//").ok_or("is tcp://HOST:PORT or udp://HOST:PORT")?;
        let (host, port) = authority.rsplit_once(':').ok_or("names no port")?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or("has no port of 1 to 65535")?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| "has brackets around what is no IPv6 address")?.to_string(),
            None if is_name(host) => host.to_string(),
            None => return Err("names no host: a name, an IPv4 address, or an IPv6 address in brackets"),
        };
        Ok(Self { host, port })
    }
}

fn is_name(host: &str) -> bool {
    (1..=253).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, Place { host, port }) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Tcp(place) => ("tcp", place),
            Self::Udp(place) => ("udp", place),
        };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_host_with_its_port() {
        let pairs = [
            ("/dev/log", "unix:/dev/log"),
            ("tcp://siem.example.org", "tcp://siem.example.org:601"),
            ("tcp:siem.example.org:601", "tcp://siem.example.org:601"),
            ("udp://siem.example.org:0", "udp://siem.example.org:1"),
            ("udp://siem.example.org:65536", "udp://siem.example.org:65535"),
            ("udp://:514", "udp://10.1.2.3:514"),
            ("tcp://2001:db8::1:601", "tcp://[2001:db8::1]:601"),
            ("tcp://[siem]:601", "tcp://siem:601"),
            ("tcp://kim@siem.example.org:601", "tcp://kim.siem.example.org:601"),
            ("tcp://siem.example.org:601/path", "tcp://siem.example.org:601"),
            ("tls://siem.example.org:6514", "tcp://siem.example.org:6514"),
        ];
        for (bad, good) in pairs {
            assert!(Address::parse(bad).is_err(), "{bad}");
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
    }
}
