//! Which URL may be asked: https, or http that stays on this machine.
//!
//! Fixed by the configuration: no redirect and no proxy leads anywhere else.

use std::{fmt, net::Ipv6Addr};
use url::{Host, Url};

/// A URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub tls: bool,
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
    /// As the `Host` header has it.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl Endpoint {
    /// The error says what is wrong of the URL and repeats nothing of it: a query may hold a secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // A parser of URLs takes line breaks out silently; here they are an error.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("holds blanks or control characters");
        }
        let url = Url::parse(text).map_err(|_| "is not a URL")?;
        let host = url.host().ok_or("names no host")?;
        let tls = match url.scheme() {
            "https" => true,
            "http" if is_loopback(&host) => false,
            "http" => return Err("is http, which all on the way can read; use https (http is for loopback addresses)"),
            _ => return Err("is not an https URL"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds credentials; name a `token_file` instead");
        }
        if url.fragment().is_some() {
            return Err("has a fragment, which is never sent");
        }
        let shown = host.to_string();
        if shown.len() > 255 {
            return Err("names a host of more than 255 characters");
        }
        Ok(Self {
            tls,
            host: shown.trim_start_matches('[').trim_end_matches(']').to_string(),
            port: url.port_or_known_default().filter(|port| *port != 0).ok_or("names no port")?,
            authority: url.port().map_or_else(|| shown.clone(), |port| format!("{shown}:{port}")),
            target: url.query().map_or_else(|| url.path().to_string(), |q| format!("{}?{q}", url.path())),
        })
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(v4) => v4.is_loopback(),
        Host::Ipv6(v6) => *v6 == Ipv6Addr::LOCALHOST,
        Host::Domain(name) => *name == "localhost",
    }
}

/// Without path and query, which may hold a secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H01, H04, H05, H18: each refused one beside one that is accepted.
    #[test]
    fn an_endpoint_is_https_or_on_loopback_and_holds_no_credentials() {
        let pairs = [
            ("http://siem.example.org/ingest", "https://siem.example.org/ingest"),
            ("http://10.1.2.3/", "https://10.1.2.3/"),
            ("http://169.254.169.254/", "https://169.254.169.254/"),
            ("http://0.0.0.0:9/", "http://127.0.0.1:9/"),
            ("http://0x80.1:9/", "http://0x7f.1:9/"),
            ("http://[::]:9/", "http://[::1]:9/"),
            ("http://[::ffff:10.1.2.3]:9/", "https://[::ffff:10.1.2.3]:9/"),
            ("http://localhost.example.org/", "http://localhost/"),
            ("ftp://siem.example.org/", "https://siem.example.org:8088/"),
            ("file:///etc/shadow", "https://siem.example.org/etc/shadow"),
            ("https://user:secret@siem.example.org/", "https://siem.example.org/user:secret"),
            ("https://token@siem.example.org/", "https://siem.example.org/?token"),
            ("https://siem.example.org/#part", "https://siem.example.org/part"),
            ("https://siem.example.org/a\r\nx-evil: yes", "https://siem.example.org/a%0d%0ax-evil:%20yes"),
            ("https://siem.example.org/a b", "https://siem.example.org/a%20b"),
            ("siem.example.org", "https://siem.example.org"),
            ("https://", "https://a"),
            ("https://siem.example.org:0/", "https://siem.example.org:1/"),
        ];
        for (bad, good) in pairs {
            assert!(Endpoint::parse(bad).is_err(), "{bad:?}");
            Endpoint::parse(good).unwrap_or_else(|why| panic!("{good}: {why}"));
        }
    }

    #[test]
    fn what_is_shown_of_an_endpoint_holds_neither_path_nor_query() {
        let endpoint = Endpoint::parse("https://siem.example.org/secret-path?key=s3cret").unwrap();
        assert_eq!((endpoint.authority.as_str(), endpoint.port), ("siem.example.org", 443));
        assert_eq!(endpoint.target, "/secret-path?key=s3cret");
        assert_eq!(format!("{endpoint} {endpoint:?}").matches("s3cret").count(), 0);
        let v6 = Endpoint::parse("https://[2001:db8::1]:8088").unwrap();
        assert_eq!((v6.host.as_str(), v6.authority.as_str()), ("2001:db8::1", "[2001:db8::1]:8088"));
        assert_eq!(v6.target, "/");
    }
}
