//! Where a syslog listens: `unix:///path`, `tcp://host:port`, `udp://host:port`.

use std::{
    fmt,
    path::{Component, PathBuf},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// Host and port, as they are resolved.
    Tcp(String),
    Udp(String),
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "is unix:///path, tcp://host:port or udp://host:port".to_string();
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
            return if path.is_absolute() && plain { Ok(Self::Unix(path)) } else { Err(form) };
        }
        let (place, of): (_, fn(String) -> Self) = match text.split_once("://") {
            Some(("tcp", place)) => (place, Self::Tcp),
            Some(("udp", place)) => (place, Self::Udp),
            _ => return Err(form),
        };
        host_and_port(place).ok_or(form).map(of)
    }
}

/// A name or an address, IPv6 in brackets, and a port.
fn host_and_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<std::num::NonZeroU16>().ok()?;
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let known = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.chars().all(name),
    };
    known.then(|| text.to_string())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(to) => write!(f, "tcp://{to}"),
            Self::Udp(to) => write!(f, "udp://{to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_transport_and_a_place_and_nothing_else() {
        for good in ["unix:///dev/log", "tcp://siem.example.org:601", "udp://127.0.0.1:514", "tcp://[::1]:601"] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "/dev/log",
            "unix://dev/log",
            "unix:///run/../etc/shadow",
            "tcp://siem.example.org",
            "tcp://:601",
            "tcp://siem.example.org:0",
            "tcp://siem.example.org:66000",
            "tcp://user@siem.example.org:601",
            "tcp://siem.example.org:601/path",
            "tcp://siem example:601",
            "udp://[::zz]:514",
            "tls://siem.example.org:6514",
            "tcp://siem\r\n:601",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
    }
}
