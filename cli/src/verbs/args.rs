//! Values that several verbs read from flags. What is malformed is refused here, before anything is asked.

use proto_types::{RoleName, Selector, SpiffeId, Timestamp, id, parse_duration};
use std::time::Duration;

pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

pub fn spiffe_id(text: &str) -> Result<SpiffeId, String> {
    id::parse_spiffe_id(text).map_err(|e| e.to_string())
}

pub fn role(text: &str) -> Result<RoleName, String> {
    text.parse().map_err(|e: proto_types::IdError| format!("{e}: write TARGET/ROLE"))
}

/// A workload, or `ID/*` for every one below.
pub fn workload(text: &str) -> Result<String, String> {
    proto_types::hold::WorkloadPattern::parse(text).map(|p| p.as_str().into()).map_err(|e| e.to_string())
}

pub fn selector(text: &str) -> Result<Selector, String> {
    Selector::parse(text).map_err(|e| e.to_string())
}

pub fn trust_domain(text: &str) -> Result<String, String> {
    id::parse_trust_domain(text.strip_prefix("spiffe://").unwrap_or(text))
        .map(|t| t.to_string())
        .map_err(|e| e.to_string())
}

pub fn dns_name(text: &str) -> Result<String, String> {
    let bad = || "write a DNS name: labels of letters, digits and `-`, no wildcard".to_string();
    if proto_types::entry::is_dns_name(text) { Ok(text.into()) } else { Err(bad()) }
}

/// Whole seconds for a wire field of 32 bits.
pub fn seconds(d: Duration) -> i32 {
    i32::try_from(d.as_secs()).unwrap_or(i32::MAX)
}

/// A moment: RFC 3339, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    Ago(Duration),
}

impl When {
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(d) => now.minus(d),
        }
    }
}

pub fn when(text: &str) -> Result<When, String> {
    if let Ok(time) = text.parse() {
        return Ok(When::At(time));
    }
    parse_duration(text)
        .map(When::Ago)
        .map_err(|_| "write a time such as 2026-11-21T08:00:00Z, or how long ago, such as 2h".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_and_nothing_else() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let of = |text| when(text).map(|w| w.resolve(now).to_string());
        assert_eq!(of("2026-11-21T08:00:00Z").unwrap(), "2026-11-21T08:00:00Z");
        assert_eq!(of("90m").unwrap(), "2026-11-21T10:30:00Z");
        for bad in ["yesterday", "2026-11-21", "90"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trust_domain_is_read_with_and_without_its_scheme() {
        assert_eq!(trust_domain("spiffe://example.org").unwrap(), "example.org");
        assert_eq!(trust_domain("example.org").unwrap(), "example.org");
        assert!(trust_domain("spiffe://example.org/path").is_err());
    }
}
