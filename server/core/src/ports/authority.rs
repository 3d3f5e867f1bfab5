//! Signing: templates in, certificates and tokens out. A key has one use and no export.

use super::TreeRoot;
use crate::journal::{SignedNote, VerifierKey};
use proto_types::{Fut, KeyUse, Secret, SpiffeId, Timestamp};
use std::sync::Arc;

/// What a certificate will say; nothing of it comes from the requester but the public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Template {
    pub spiffe_id: SpiffeId,
    pub dns_names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// A subject public key whose possession was proven: SubjectPublicKeyInfo, DER. Made by [`crate::issue`] checks only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenKey(Vec<u8>);

impl ProvenKey {
    /// Asserts that the holder of this key signed the request that carried it.
    pub fn assertion(spki_der: Vec<u8>) -> Self {
        Self(spki_der)
    }
    pub fn spki_der(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Clone, Debug)]
pub struct X509Svid {
    /// Leaf first, DER each. The root is in the bundle, not here.
    pub chain: Vec<Vec<u8>>,
    /// Lowercase hex.
    pub serial: String,
    pub not_after: Timestamp,
}

/// What a JWT will say. `claims` holds everything but `exp`, `iat` and `jti`, which the minter sets.
#[derive(Clone, Debug)]
pub struct JwtTemplate {
    pub key_use: KeyUse,
    /// The `typ` header.
    pub typ: &'static str,
    pub claims: serde_json::Map<String, serde_json::Value>,
    pub issued_at: Timestamp,
    pub not_before: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub jti: String,
}

#[derive(Clone, Debug)]
pub struct SignedJwt {
    pub token: Secret<String>,
    /// The least of what was asked and what the key allows.
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("no active {0} key; see `errand authority`")]
    NoActiveKey(&'static str),
    /// The linter refused what would have been signed.
    #[error("refused to sign: {0}")]
    Refused(String),
    #[error("the key manager cannot sign now: {0}")]
    Unavailable(String),
}

pub trait Minter: Send + Sync {
    fn x509<'a>(&'a self, template: &'a X509Template, key: &'a ProvenKey) -> Fut<'a, Result<X509Svid, SignError>>;
    fn jwt<'a>(&'a self, template: &'a JwtTemplate) -> Fut<'a, Result<SignedJwt, SignError>>;
}

/// Signs SSH certificates, whose bytes a kind of target composes. Ed25519 (RFC 8709).
pub trait SshSigner: Send + Sync {
    /// The key that signs now.
    fn public(&self) -> Option<PublicKey>;
    /// The raw signature of the key `kid`: refused when another one signs by now, since a certificate names its signer.
    fn sign<'a>(&'a self, kid: &'a str, message: &'a [u8]) -> Fut<'a, Result<[u8; 64], SignError>>;
}

/// A key others verify with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub kid: String,
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: Vec<u8>,
    pub not_after: Timestamp,
}

/// What this trust domain publishes: every key with an unexpired SVID, and the prepared next one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bundle {
    /// CA certificates, DER.
    pub x509: Vec<Vec<u8>>,
    pub jwt: Vec<PublicKey>,
    /// Grows with each change.
    pub sequence: u64,
    /// Seconds.
    pub refresh_hint: u64,
}

/// Signs what the journal says of itself, under the journal's name.
pub trait JournalSigner: Send + Sync {
    /// The key that signs now; `None` before there is one.
    fn key(&self) -> Option<VerifierKey>;
    /// The root as a signed checkpoint.
    fn checkpoint(&self, root: TreeRoot) -> Result<SignedNote, SignError>;
}

/// The published side of the authorities.
pub trait Authorities: Send + Sync {
    fn bundle(&self) -> Arc<Bundle>;
    /// When the active CA certificate ends: no certificate outlives its issuer. The epoch when there is none.
    fn ca_not_after(&self) -> Timestamp;
    /// Public keys of one use that may still verify something.
    fn public_keys(&self, key_use: KeyUse) -> Vec<PublicKey>;
}
