//! The answer of the token endpoint (RFC 8693 section 2.2.1). It holds the credential: never logged, never stored.

use crate::ports::Durable;
use proto_types::{CredentialInfo, Secret};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One answer; send it with `Cache-Control: no-store`. There is no refresh token.
#[derive(Serialize, Deserialize)]
pub struct TokenResponse {
    #[serde(with = "exposed")]
    pub access_token: Secret<String>,
    pub issued_token_type: String,
    /// `Bearer` for a task token, `N_A` for what is not presented as a bearer token.
    pub token_type: String,
    /// Seconds.
    pub expires_in: u64,
    /// Present when it is less than what was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialInfo>,
    /// The record of this release: whoever keeps it can have its inclusion proven later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalPlace>,
}

/// Where a record stands, and its leaf hash, lowercase hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPlace {
    pub position: u64,
    pub leaf: String,
}

impl JournalPlace {
    pub fn of(released: &Durable) -> Option<Self> {
        Some(Self { position: released.first().0, leaf: hex::encode(released.leaf()?) })
    }
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenResponse({} for {} s)", self.issued_token_type, self.expires_in)
    }
}

/// The one place where the token leaves its wrapper: the answer itself.
mod exposed {
    use super::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(token: &Secret<String>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(token.expose())
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Secret<String>, D::Error> {
        String::deserialize(d).map(Secret::new)
    }
}
