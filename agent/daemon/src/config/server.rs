//! `server`: where the servers are: `host:port` each, a table where one has a weight, or a name that DNS has records of
//! (SRV, RFC 2782). `dns`: who is asked for these, when it is not the machine's own.

use super::reader::Reader;
use proto_types::id::excerpt;
use rustls_pki_types::ServerName;
use std::{fmt, net::SocketAddr};
use toml::{Table, Value};

/// Most places in the list, and most DNS servers.
const MAX_SERVERS: usize = 64;
const MAX_DNS: usize = 8;
/// Longest name in DNS, characters (RFC 1035 section 2.3.4, without the length bytes).
const MAX_NAME: usize = 253;

/// One server's address. The name is only for finding it: who answers is proved by its SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    pub host: String,
    pub port: u16,
}

/// Where one server is, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerPlace {
    /// One, with its share of the agents beside others; 1 unless written.
    Address(ServerAddress, u16),
    /// Whoever the SRV records of this name are of, by their priorities and weights.
    Service(String),
}

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// At least one.
    pub places: Vec<ServerPlace>,
    /// Who is asked for SRV records; the machine's own when there is none.
    pub dns: Vec<SocketAddr>,
}

impl Servers {
    /// Whether there may be another to go to.
    pub fn are_several(&self) -> bool {
        self.places.len() > 1 || matches!(self.places[..], [ServerPlace::Service(_)])
    }
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

impl fmt::Display for ServerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, _) => address.fmt(f),
            Self::Service(name) => name.fmt(f),
        }
    }
}

pub(super) fn read(r: &mut Reader<'_>) -> Servers {
    let given = match r.take("server") {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    if given.is_empty() {
        r.problem("server", "is missing; write for example server = [\"errand.example.org:8081\"]");
    }
    if given.len() > MAX_SERVERS {
        r.problem("server", format!("at most {MAX_SERVERS} places"));
    }
    let mut places = Vec::new();
    for value in given.into_iter().take(MAX_SERVERS) {
        match place(value) {
            Ok(place) => places.push(place),
            Err(what) => r.problem("server", what),
        }
    }
    Servers { places, dns: dns(r) }
}

fn place(value: Value) -> Result<ServerPlace, String> {
    match value {
        Value::String(text) => Ok(ServerPlace::Address(address(&text)?, 1)),
        Value::Table(table) => table_place(table),
        _ => Err("write a string, a table, or a list of these".into()),
    }
}

fn table_place(mut table: Table) -> Result<ServerPlace, String> {
    const FORM: &str = "write { address = \"host:port\", weight = 2 } or { srv = \"_errand._tcp.example.org\" }";
    let place = match (table.remove("address"), table.remove("srv")) {
        (Some(Value::String(text)), None) => {
            let weight = match table.remove("weight") {
                None => 1,
                Some(Value::Integer(weight)) => {
                    u16::try_from(weight).map_err(|_| "a weight is a number from 0 to 65535".to_string())?
                }
                Some(_) => return Err("a weight is a number from 0 to 65535".into()),
            };
            ServerPlace::Address(address(&text)?, weight)
        }
        (None, Some(Value::String(name))) => ServerPlace::Service(service(&name)?),
        _ => return Err(FORM.into()),
    };
    match table.keys().next() {
        None => Ok(place),
        Some(key) => Err(format!("`{}` is not known here; {FORM}", excerpt(key))),
    }
}

fn address(text: &str) -> Result<ServerAddress, String> {
    ServerAddress::parse(text).ok_or_else(|| format!("`{}` is not an address; write host:port", excerpt(text)))
}

/// The name of SRV records: `_service._tcp.` and a domain.
fn service(name: &str) -> Result<String, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut labels = name.split('.');
    let tagged = |label: Option<&str>| label.is_some_and(|l| l.len() > 1 && l.starts_with('_'));
    let good = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let whole = name.len() <= MAX_NAME && name.split('.').count() > 2 && name.split('.').all(good);
    match whole && tagged(labels.next()) && labels.next() == Some("_tcp") {
        true => Ok(name.into()),
        false => Err(format!("`{}` is no name of SRV records; write _errand._tcp.example.org", excerpt(name))),
    }
}

fn dns(r: &mut Reader<'_>) -> Vec<SocketAddr> {
    let texts = r.strings("dns");
    if texts.len() > MAX_DNS {
        r.problem("dns", format!("at most {MAX_DNS} servers"));
    }
    let mut servers = Vec::new();
    for text in texts.into_iter().take(MAX_DNS) {
        match text.parse::<SocketAddr>() {
            Ok(at) if at.port() != 0 => servers.push(at),
            _ => r.problem("dns", format!("`{}` is not an IP address and port; write 192.0.2.53:53", excerpt(&text))),
        }
    }
    servers
}
