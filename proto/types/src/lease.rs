//! Leases: the record of one credential in a target, from before it exists to after it is gone.
//!
//! Holds the noun and the deterministic credential name; the state machine is `server-core::lease`.

use crate::{
    id::{LeaseId, SpiffeId, TaskId, spiffe_id},
    target::RoleName,
    time::Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;

/// How fast a kind of credential can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocability {
    Instant,
    SessionKill,
    TtlOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    Intended,
    Handed,
    Revoking,
    Revoked,
    Lingering,
    Expired,
    Void,
}

impl LeaseState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Handed => "handed",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
            Self::Lingering => "lingering",
            Self::Expired => "expired",
            Self::Void => "void",
        }
    }
    /// Nothing more happens to a lease in this state.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::Void)
    }
}

/// The name a credential has in its target: `errand_<5 of the store id>_<16 base32 of SHA-256(lease id)>`, 29 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialName(String);

/// RFC 4648 base32 in lowercase, without padding: safe in every target's identifiers.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl CredentialName {
    /// The one name of `lease` for the store whose id starts with `store`.
    pub fn of(store_id: &str, lease: LeaseId) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, lease.to_string().as_bytes());
        let mut name = Self::prefix(store_id);
        // 16 characters of 5 bits are the first 10 bytes.
        for chunk in digest.as_ref()[..10].chunks(5) {
            let bits = chunk.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
            for i in (0..8).rev() {
                name.push(BASE32[(bits >> (i * 5) & 31) as usize] as char);
            }
        }
        Self(name)
    }
    /// What every name of one store starts with: scans match this and nothing else.
    pub fn prefix(store_id: &str) -> String {
        format!("errand_{}_", &store_id[..store_id.len().min(5)])
    }
    /// A name read back from a target. `None` unless it has exactly the shape this store gives.
    pub fn recognise(store_id: &str, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(&Self::prefix(store_id))?;
        (rest.len() == 16 && rest.bytes().all(|b| BASE32.contains(&b))).then(|| Self(text.to_string()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a kind wants to know again when it revokes. Kept as text: servers hold a lease for every credential alive, and as
/// a tree of values this would be most of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handle(Option<Box<str>>);

impl Handle {
    /// The value; `Null` when the kind gave none.
    pub fn value(&self) -> Value {
        self.0.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

impl From<Value> for Handle {
    fn from(value: Value) -> Self {
        Self((!value.is_null()).then(|| value.to_string().into()))
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    pub task_id: TaskId,
    #[serde(with = "spiffe_id")]
    pub workload: SpiffeId,
    pub role: RoleName,
    /// The target's kind, so that a lease can be revoked knowing nothing else.
    pub kind: String,
    pub name: CredentialName,
    pub state: LeaseState,
    pub revocability: Revocability,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
    /// A role's oid, a serial. Never a secret.
    #[serde(default)]
    pub handle: Handle,
    /// When the reconciler looks next.
    pub due_at: Timestamp,
    pub tries: u32,
    /// What the target said last, when revoking failed.
    #[serde(default)]
    pub last_error: Option<String>,
    /// The request it answers, when that had an `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Box<Attempt>>,
}

/// A request that may be sent again, and how many times it was answered before. Digests alone, so that neither a client's
/// key nor what it asked for stands anywhere; each is 16 bytes in lowercase hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Of the task and the key.
    pub key: Box<str>,
    /// Of the key and everything that was asked for.
    pub request: Box<str>,
    /// 0 for the first answer; each that comes after one that is gone counts one more.
    pub number: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_has_29_bytes_and_is_recognised_by_its_own_store_only() {
        let lease: LeaseId = "018f2f0c-8f6b-7c3e-8a52-0123456789ab".parse().unwrap();
        let name = CredentialName::of("k3m9x", lease);
        assert_eq!(name.as_str().len(), 29);
        assert_eq!(CredentialName::recognise("k3m9x", name.as_str()), Some(name.clone()));
        assert_eq!(CredentialName::recognise("k3m9y", name.as_str()), None);
        assert_eq!(CredentialName::recognise("k3m9x", &format!("{name}; drop")), None);
    }

    #[test]
    fn a_handle_is_written_and_read_as_the_value_it_is() {
        for value in [json!({ "oid": 7, "target": "orders-db" }), json!("x"), json!([1]), Value::Null] {
            let handle = Handle::from(value.clone());
            assert_eq!(handle.value(), value);
            assert_eq!(serde_json::to_value(&handle).unwrap(), value);
            assert_eq!(serde_json::from_value::<Handle>(value).unwrap(), handle);
        }
    }
}
