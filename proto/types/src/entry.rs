//! Selectors, registration entries and attested nodes, with the fields and limits SPIRE has.
//!
//! Decides what a well-formed selector and entry are. Which entries a node earns is `server-core::entry`.

use crate::{
    id::{EntryId, IdError, SpiffeId, TrustDomain, WorkloadId, excerpt, spiffe_id},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest selector type and value, bytes.
pub const MAX_SELECTOR_TYPE: usize = 64;
pub const MAX_SELECTOR_VALUE: usize = 1024;
/// Most selectors, DNS names and federated domains one entry may carry.
pub const MAX_SELECTORS: usize = 64;
pub const MAX_NAMES: usize = 32;

/// One attested fact, `type:value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

impl Selector {
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Result<Self, EntryError> {
        let (kind, value) = (kind.into(), value.into());
        let ok = (1..=MAX_SELECTOR_TYPE).contains(&kind.len())
            && !kind.contains(':')
            && kind.bytes().all(|b| b.is_ascii_graphic())
            && (1..=MAX_SELECTOR_VALUE).contains(&value.len())
            && !value.contains('\0');
        if ok { Ok(Self { kind, value }) } else { Err(EntryError::Selector(excerpt(&format!("{kind}:{value}")))) }
    }
    /// Reads `type:value`; the value may contain colons.
    pub fn parse(text: &str) -> Result<Self, EntryError> {
        let (kind, value) = text.split_once(':').ok_or_else(|| EntryError::Selector(excerpt(text)))?;
        Self::new(kind, value)
    }
    pub fn kind(&self) -> &str {
        &self.kind
    }
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// What is wrong with a registration entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("`{0}` is not a selector: write type:value, type at most 64 and value at most 1024 bytes")]
    Selector(String),
    #[error("an entry needs at least one selector; without one it would match every process")]
    NoSelectors,
    #[error("an entry has at most {limit} {what}, this one has {got}")]
    TooMany { what: &'static str, limit: usize, got: usize },
    #[error(
        "`{0}` is not a DNS name that a certificate may carry: labels of letters, digits and `-`, at most 253 characters, no wildcard"
    )]
    DnsName(String),
    #[error("a hint has at most 1024 bytes")]
    Hint,
    #[error("an entry whose SVID is stored has selectors of one type, and this one has `{0}` and `{1}`")]
    StoredBy(String, String),
    #[error("a TTL is between 0 (the server's default) and 1 year")]
    Ttl,
    #[error("the parent `{0}` is not this trust domain's server or one of its agents or node aliases")]
    Parent(String),
    #[error(transparent)]
    Id(#[from] IdError),
}

/// A registration entry: it matches a process when its selectors are a subset of what was attested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: EntryId,
    #[serde(with = "spiffe_id")]
    pub spiffe_id: SpiffeId,
    /// An agent, a node alias, or `/spire/server` (then the entry *is* a node alias).
    #[serde(with = "spiffe_id")]
    pub parent_id: SpiffeId,
    /// Sorted, without duplicates.
    pub selectors: Vec<Selector>,
    /// Seconds; 0 takes the server's default.
    #[serde(default)]
    pub x509_svid_ttl: u32,
    #[serde(default)]
    pub jwt_svid_ttl: u32,
    #[serde(default)]
    pub federates_with: Vec<String>,
    #[serde(default)]
    pub dns_names: Vec<String>,
    #[serde(default)]
    pub hint: String,
    #[serde(default)]
    pub admin: bool,
    #[serde(default)]
    pub downstream: bool,
    #[serde(default)]
    pub store_svid: bool,
    /// Seconds since the epoch after which the entry is pruned; 0 is never. It does not cap an SVID's life.
    #[serde(default)]
    pub expires_at: i64,
    /// Agents get its X.509-SVID when a process asks for it, not before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_x509_svid_prefetch: bool,
    /// Each of its JWT-SVIDs is for one call: agents keep none. (A `jti` has every one, asked for or not.)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub jwt_svid_include_jti: bool,
    /// Set by the server; grows by one with each change.
    #[serde(default)]
    pub revision: u64,
    #[serde(default)]
    pub created_at: Timestamp,
}

impl Entry {
    /// Puts lists in their one order and checks every field. `id`, `revision` and `created_at` are the server's.
    pub fn checked(mut self, td: &TrustDomain) -> Result<Self, EntryError> {
        WorkloadId::new(self.spiffe_id.clone(), td)?;
        let parent = self.parent_id.path();
        let known = self.parent_id.trust_domain() == td
            && !parent.is_empty()
            && (parent == "/spire/server" || parent.starts_with("/spire/agent/") || !parent.starts_with("/spire/"))
            && self.parent_id != self.spiffe_id;
        if !known {
            return Err(EntryError::Parent(excerpt(&self.parent_id.to_string())));
        }
        if self.selectors.is_empty() {
            return Err(EntryError::NoSelectors);
        }
        bounded("selectors", self.selectors.len(), MAX_SELECTORS)?;
        bounded("DNS names", self.dns_names.len(), MAX_NAMES)?;
        bounded("federated trust domains", self.federates_with.len(), MAX_NAMES)?;
        if let Some(bad) = self.dns_names.iter().find(|n| !is_dns_name(n)) {
            return Err(EntryError::DnsName(excerpt(bad)));
        }
        for name in &self.federates_with {
            crate::id::parse_trust_domain(name)?;
        }
        if self.hint.len() > 1024 {
            return Err(EntryError::Hint);
        }
        if self.x509_svid_ttl > 31_536_000 || self.jwt_svid_ttl > 31_536_000 {
            return Err(EntryError::Ttl);
        }
        // Deserialised selectors have not passed the constructor.
        for s in &self.selectors {
            Selector::new(s.kind.clone(), s.value.clone())?;
        }
        // Each store of SVIDs reads the selectors of its own type.
        let first = &self.selectors[0];
        if let Some(other) = self.selectors.iter().find(|s| self.store_svid && s.kind != first.kind) {
            return Err(EntryError::StoredBy(first.kind.clone(), other.kind.clone()));
        }
        self.selectors.sort();
        self.selectors.dedup();
        self.federates_with.sort();
        self.federates_with.dedup();
        Ok(self)
    }

    /// What makes an entry unique: (SPIFFE ID, parent, selectors).
    pub fn similar_to(&self, other: &Self) -> bool {
        self.spiffe_id == other.spiffe_id && self.parent_id == other.parent_id && self.selectors == other.selectors
    }
}

fn bounded(what: &'static str, got: usize, limit: usize) -> Result<(), EntryError> {
    if got > limit { Err(EntryError::TooMany { what, limit, got }) } else { Ok(()) }
}

/// A name a certificate may carry (RFC 1123 labels): no wildcard, no trailing dot, no bare IP address.
pub fn is_dns_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.parse::<std::net::IpAddr>().is_err()
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// An attested node: one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    #[serde(with = "spiffe_id")]
    pub id: SpiffeId,
    pub attestation_type: String,
    pub selectors: Vec<Selector>,
    /// Serial of the agent's current SVID, lowercase hex; only this one is accepted (and `next_serial`).
    pub serial: String,
    /// Serial of a renewal the agent has not been seen using: an agent killed between the answer and its disk
    /// still holds the old one, so both stand until the new one is used.
    #[serde(default)]
    pub next_serial: Option<String>,
    pub expires_at: Timestamp,
    #[serde(default)]
    pub banned: bool,
    pub can_reattest: bool,
    pub attested_at: Timestamp,
    #[serde(default)]
    pub version: String,
}

/// A one-time token for node attestation. Only its digest is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// SHA-256 of the token, lowercase hex.
    pub digest: String,
    pub expires_at: Timestamp,
    /// A node alias that the agent gets besides its own ID.
    #[serde(default)]
    pub alias: Option<String>,
}
