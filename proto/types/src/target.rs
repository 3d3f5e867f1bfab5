//! Targets, roles, policies and key purposes as names and documents.
//!
//! A target's own section is opaque here: it is parsed by the kind that owns it (`server-targets`).

use crate::id::{IdError, excerpt};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};

/// `target/role`: each part 1–63 bytes of `[a-z0-9_-]`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName {
    target: String,
    role: String,
}

impl RoleName {
    pub fn new(target: &str, role: &str) -> Result<Self, IdError> {
        if is_name(target) && is_name(role) {
            Ok(Self { target: target.into(), role: role.into() })
        } else {
            Err(IdError::Opaque { what: "target/role", got: excerpt(&format!("{target}/{role}")) })
        }
    }
    pub fn target(&self) -> &str {
        &self.target
    }
    pub fn role(&self) -> &str {
        &self.role
    }
}

/// A target's, role's or policy's name.
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.target, self.role)
    }
}

impl FromStr for RoleName {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let (target, role) =
            s.split_once('/').ok_or_else(|| IdError::Opaque { what: "target/role", got: excerpt(s) })?;
        Self::new(target, role)
    }
}

impl Serialize for RoleName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// A declared target: the document, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetDoc {
    pub name: String,
    pub kind: String,
    /// The `[[target]]` table as JSON, with `name` and `kind`; never a secret, only files that hold them.
    pub body: serde_json::Value,
    /// `config` (declared in a file, not changeable by `apply`) or `applied`.
    pub origin: String,
    pub revision: u64,
    /// Set when the target is deleted while leases are left to revoke in it.
    #[serde(default)]
    pub retired: bool,
}

/// A Cedar policy set applied under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDoc {
    pub id: String,
    /// Cedar source text.
    pub text: String,
    pub revision: u64,
    pub origin: String,
}

/// A signing key's one purpose. A key of one use never signs for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUse {
    X509,
    JwtSvid,
    Oauth,
    Journal,
    Ssh,
}

impl KeyUse {
    pub const ALL: [Self; 5] = [Self::X509, Self::JwtSvid, Self::Oauth, Self::Journal, Self::Ssh];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::JwtSvid => "jwt-svid",
            Self::Oauth => "oauth",
            Self::Journal => "journal",
            Self::Ssh => "ssh",
        }
    }
}
