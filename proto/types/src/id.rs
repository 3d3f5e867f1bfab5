//! Identifiers. A value of one of these types is always valid; nothing downstream checks again.
//!
//! `SpiffeId` and `TrustDomain` come from the `spiffe` crate, behind a parser that first bounds the length
//! (SPIFFE-ID section 2.3: 2048 bytes) and never echoes more than 64 bytes of what it refused.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};

pub use spiffe::{SpiffeId, TrustDomain};

/// Longest SPIFFE ID accepted, bytes (SPIFFE-ID section 2.3).
pub const MAX_SPIFFE_ID: usize = 2048;
/// Longest trust-domain name, bytes (SPIFFE-ID section 2.3).
pub const MAX_TRUST_DOMAIN: usize = 255;

/// Why an identifier was refused. `got` is cut to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a SPIFFE ID has at most 2048 bytes, this one has {0}")]
    TooLong(usize),
    #[error("`{got}` is not a SPIFFE ID: {why}")]
    SpiffeId { got: String, why: String },
    #[error("`{got}` is not a trust domain: use lowercase letters, digits, `.`, `-` and `_`")]
    TrustDomain { got: String },
    #[error("`{got}` is not a workload of `{trust_domain}`: {why}")]
    NotAWorkload { got: String, trust_domain: String, why: &'static str },
    #[error("`{got}` is not a {what} id")]
    Opaque { what: &'static str, got: String },
}

/// At most `64` characters of hostile input, safe to show.
pub fn excerpt(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The one parser of SPIFFE IDs.
pub fn parse_spiffe_id(text: &str) -> Result<SpiffeId, IdError> {
    if text.len() > MAX_SPIFFE_ID {
        return Err(IdError::TooLong(text.len()));
    }
    let refuse = |why: String| IdError::SpiffeId { got: excerpt(text), why };
    let id = SpiffeId::new(text).map_err(|e| refuse(e.to_string()))?;
    // The library brings capitals in scheme and trust domain into order; two spellings of one name would be two keys
    // in every table, so only the canonical one is taken.
    if id.to_string() == text { Ok(id) } else { Err(refuse("scheme and trust domain are written in lowercase".into())) }
}

/// The one parser of trust-domain names: a bare name, no scheme and no path.
pub fn parse_trust_domain(text: &str) -> Result<TrustDomain, IdError> {
    let fail = || IdError::TrustDomain { got: excerpt(text) };
    if text.is_empty() || text.len() > MAX_TRUST_DOMAIN || text.contains('/') || text.contains(':') {
        return Err(fail());
    }
    TrustDomain::new(text).ok().filter(|td| td.to_string() == text).ok_or_else(fail)
}

/// Whether `path` ends in `/task/<UUID>`: reserved for task identities, refused in entries and in minting.
pub fn is_task_path(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let last = parts.next().unwrap_or_default();
    parts.next() == Some("task") && uuid::Uuid::try_parse(last).is_ok()
}

/// The identity a registration entry may give: a member of the trust domain with a path, outside the
/// reserved `/spire/` prefix, that does not look like a task's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadId(SpiffeId);

impl WorkloadId {
    pub fn new(id: SpiffeId, td: &TrustDomain) -> Result<Self, IdError> {
        let path = id.path().to_string();
        let why = if id.trust_domain() != td {
            "it belongs to another trust domain"
        } else if path.is_empty() {
            "a workload's ID has a path"
        } else if path == "/spire" || path.starts_with("/spire/") {
            "paths under /spire/ are reserved for servers and agents"
        } else if is_task_path(&path) {
            "paths that end in /task/<UUID> are reserved for tasks"
        } else {
            return Ok(Self(id));
        };
        Err(IdError::NotAWorkload { got: excerpt(&id.to_string()), trust_domain: td.to_string(), why })
    }

    pub fn parse(text: &str, td: &TrustDomain) -> Result<Self, IdError> {
        Self::new(parse_spiffe_id(text)?, td)
    }

    pub fn id(&self) -> &SpiffeId {
        &self.0
    }

    /// The identity of one task of this workload: `<workload>/task/<task id>`.
    pub fn task(&self, task: TaskId) -> Result<SpiffeId, IdError> {
        parse_spiffe_id(&format!("{}/task/{task}", self.0))
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes an identifier that is a UUID, spelled in lowercase hyphenated form.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(uuid::Uuid);
        impl $name {
            pub fn new(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
            pub fn uuid(&self) -> &uuid::Uuid {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let fail = || IdError::Opaque { what: $what, got: excerpt(s) };
                let uuid = uuid::Uuid::try_parse(s).map_err(|_| fail())?;
                // One spelling only: two spellings of one id would be two keys in every table.
                if uuid.hyphenated().to_string() != s { return Err(fail()) }
                Ok(Self(uuid))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// A task's id, a UUIDv7.
    TaskId, "task"
);
uuid_id!(
    /// A lease's id, a UUIDv7.
    LeaseId, "lease"
);
uuid_id!(
    /// A hold's id, a UUIDv7.
    HoldId, "hold"
);

/// A registration entry's id: chosen by the caller or a UUID; at most 255 characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EntryId(String);

impl EntryId {
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let ok = (1..=255).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if ok { Ok(Self(text)) } else { Err(IdError::Opaque { what: "entry", got: excerpt(&text) }) }
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EntryId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// Serde for `SpiffeId` fields: `#[serde(with = "proto_types::id::spiffe_id")]`.
pub mod spiffe_id {
    use super::{Deserialize, Deserializer, Serializer, SpiffeId, parse_spiffe_id};
    use serde::de::Error as _;

    pub fn serialize<S: Serializer>(id: &SpiffeId, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(id)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SpiffeId, D::Error> {
        parse_spiffe_id(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn td() -> TrustDomain {
        parse_trust_domain("example.org").unwrap()
    }

    #[test]
    fn entries_may_not_take_reserved_paths_and_their_neighbours_may() {
        for bad in [
            "spiffe://example.org",
            "spiffe://example.org/spire/agent/x",
            "spiffe://other.org/x",
            "spiffe://example.org/a/task/018f2f0c-8f6b-7c3e-8a52-0123456789ab",
        ] {
            assert!(WorkloadId::parse(bad, &td()).is_err(), "{bad}");
        }
        for good in
            ["spiffe://example.org/spirex", "spiffe://example.org/a/task/7", "spiffe://example.org/agents/planner"]
        {
            WorkloadId::parse(good, &td()).unwrap();
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let one = "018f2f0c-8f6b-7c3e-8a52-0123456789ab";
        assert!(one.parse::<TaskId>().is_ok());
        assert!(one.to_uppercase().parse::<TaskId>().is_err());
        assert!(one.replace('-', "").parse::<TaskId>().is_err());
    }
}
