//! The keys a token may be verified with: built from our own public keys or read from a JWKS (RFC 7517 section 5).
//!
//! A bad element of a kind that is used here makes the whole document bad; an element of another kind is passed over
//! (SPIFFE Trust Domain and Bundle section 4.2).

use crate::{
    alg::Alg,
    json::{JsonError, parse_object_of},
    jwk::{JwkError, KeyPurpose, document, jwk_from_spki},
    key::VerificationKey,
};
use serde_json::{Map, Value};

/// Largest JWKS document read, bytes.
pub const MAX_JWKS: usize = 1024 * 1024;
/// Most elements of `keys`.
pub const MAX_KEYS: usize = 128;
/// 128 keys of some fifty members and certificates each.
const MAX_NODES: u32 = 16_384;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("a JWKS has at most 1 MiB, this one has {0} bytes")]
    TooLarge(usize),
    #[error("a JWKS has at most 128 keys, this one has {0}")]
    TooMany(usize),
    #[error("the JWKS is {0}")]
    Json(#[from] JsonError),
    #[error("the JWKS has no array `keys`")]
    NoKeys,
    #[error("keys[{index}] of the JWKS: {problem}")]
    Key { index: usize, problem: JwkError },
    #[error("keys[{index}] of the JWKS repeats a `kid`: which key is meant would be a guess")]
    SameKid { index: usize },
}

/// Which elements of a document are taken, by their `use`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksUses {
    /// `jwt-svid` only: a SPIFFE bundle document (JWT-SVID section 6.1).
    SpiffeBundle,
    /// `jwt-svid`, `sig` or none: a trust domain's JWKS as the Workload API hands it out.
    WorkloadApi,
    /// `sig` or none: an OIDC issuer's `jwks_uri`.
    Oidc,
}

impl JwksUses {
    fn takes(self, key_use: Option<&str>) -> bool {
        match key_use {
            Some("jwt-svid") => self != Self::Oidc,
            Some("sig") | None => self != Self::SpiffeBundle,
            Some(_) => false,
        }
    }
}

/// A set of public keys, each `kid` at most once.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

impl KeySet {
    /// From our own keys: (kid, SubjectPublicKeyInfo DER).
    pub fn from_spkis<'a>(keys: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, KeySetError> {
        let mut set = Self::default();
        for (index, (kid, der)) in keys.into_iter().enumerate() {
            let key = VerificationKey::from_spki(kid, der).map_err(|problem| KeySetError::Key { index, problem })?;
            set.add(index, key)?;
        }
        Ok(set)
    }

    /// Reads a JWKS. An empty `keys` is an empty set: everything was revoked.
    pub fn from_jwks(bytes: &[u8], uses: JwksUses) -> Result<Self, KeySetError> {
        if bytes.len() > MAX_JWKS {
            return Err(KeySetError::TooLarge(bytes.len()));
        }
        let doc = parse_object_of(bytes, MAX_NODES)?;
        let Some(Value::Array(elements)) = doc.get("keys") else {
            return Err(KeySetError::NoKeys);
        };
        if elements.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(elements.len()));
        }
        let mut set = Self::default();
        for (index, element) in elements.iter().enumerate() {
            let fail = |problem| KeySetError::Key { index, problem };
            let jwk = element.as_object().ok_or(fail(JwkError::Malformed))?;
            match read(jwk, uses) {
                Ok(Some(key)) => set.add(index, key)?,
                Ok(None) | Err(JwkError::Unsupported) => {}
                Err(problem) => return Err(fail(problem)),
            }
        }
        Ok(set)
    }

    fn add(&mut self, index: usize, key: VerificationKey) -> Result<(), KeySetError> {
        if self.keys.len() == MAX_KEYS {
            return Err(KeySetError::TooMany(index + 1));
        }
        if key.kid().is_some() && self.keys.iter().any(|k| k.kid() == key.kid()) {
            return Err(KeySetError::SameKid { index });
        }
        self.keys.push(key);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key that a header means. Without a `kid` only when a single key suits the algorithm.
    pub(crate) fn choose(&self, kid: Option<&str>, alg: Alg) -> Result<&VerificationKey, Choice> {
        match kid {
            Some(_) => {
                let key = self.keys.iter().find(|k| k.kid() == kid).ok_or(Choice::UnknownKid)?;
                if key.suits(alg) { Ok(key) } else { Err(Choice::OtherAlg) }
            }
            None => {
                let mut suiting = self.keys.iter().filter(|k| k.suits(alg));
                let only = suiting.next().ok_or(Choice::UnknownKid)?;
                if suiting.next().is_some() { Err(Choice::Ambiguous) } else { Ok(only) }
            }
        }
    }

    /// Our own keys as a JWKS document, for `/keys` and the Workload API.
    pub fn document<'a>(
        keys: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        purpose: KeyPurpose,
    ) -> Result<Value, JwkError> {
        let keys = keys.into_iter().map(|(kid, der)| jwk_from_spki(der, Some(kid), purpose));
        Ok(document(keys.collect::<Result<_, _>>()?))
    }
}

/// Why no key was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    UnknownKid,
    OtherAlg,
    Ambiguous,
}

fn read(jwk: &Map<String, Value>, uses: JwksUses) -> Result<Option<VerificationKey>, JwkError> {
    // RFC 7518 section 6: members that only a private or symmetric key has.
    if ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|m| jwk.contains_key(*m)) {
        return Err(JwkError::Private);
    }
    let key_use = match jwk.get("use") {
        None => None,
        Some(Value::String(s)) => Some(s.as_str()),
        Some(_) => return Err(JwkError::Member("use")),
    };
    if !uses.takes(key_use) {
        return Ok(None);
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(ops)) if ops.iter().any(|o| o == "verify") => {}
        Some(Value::Array(_)) => return Ok(None),
        Some(_) => return Err(JwkError::Member("key_ops")),
    }
    VerificationKey::from_jwk(jwk).map(Some)
}
