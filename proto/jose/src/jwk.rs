//! Public keys as JWKs (RFC 7517) and their thumbprints (RFC 7638). Writes public members only.

use crate::{
    b64,
    key::{Material, curve},
};
use josekit::jwk::Jwk;
use serde_json::{Value, json};

/// What is wrong with a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    #[error("not a public key: SubjectPublicKeyInfo (RFC 5280) or JWK (RFC 7517) expected")]
    Malformed,
    #[error("a key type or curve that is not used here: EC P-256, P-384, P-521 or RSA")]
    Unsupported,
    #[error("the JWK's member `{0}` is missing or malformed")]
    Member(&'static str),
    #[error("the point is not an uncompressed point of its curve")]
    Point,
    #[error("an RSA key has 2048 to 4096 bits and the exponent 65537; this one has {bits} bits or another exponent")]
    Rsa { bits: usize },
    #[error("the JWK holds private members: treat that key as published, remove it and replace it")]
    Private,
}

/// The `use` member of a published key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// `x509-svid` (X509-SVID section 6.1).
    X509Svid,
    /// `jwt-svid` (JWT-SVID section 6.1).
    JwtSvid,
    /// `sig` (RFC 7517 section 4.2).
    Signature,
    /// No `use` member: what a plain JWKS of the Workload API carries.
    Unstated,
}

impl KeyPurpose {
    const fn member(self) -> Option<&'static str> {
        match self {
            Self::X509Svid => Some("x509-svid"),
            Self::JwtSvid => Some("jwt-svid"),
            Self::Signature => Some("sig"),
            Self::Unstated => None,
        }
    }
}

/// The JWK of a public key. `spki_der`: SubjectPublicKeyInfo, DER. `alg` is written where `purpose` is `Signature` and
/// the key has one algorithm only (EC), which OIDC relying parties expect.
pub fn jwk_from_spki(spki_der: &[u8], kid: Option<&str>, purpose: KeyPurpose) -> Result<Value, JwkError> {
    jwk(&Material::from_spki(spki_der)?, kid, purpose).map(|jwk| Value::Object(jwk.into()))
}

pub(crate) fn jwk(material: &Material, kid: Option<&str>, purpose: KeyPurpose) -> Result<Jwk, JwkError> {
    let mut jwk = match material {
        Material::Ec { alg, point } => {
            let (name, len) = curve(*alg).ok_or(JwkError::Unsupported)?;
            let mut jwk = Jwk::new("EC");
            jwk.set_curve(name);
            set(&mut jwk, "x", &point[1..=len])?;
            set(&mut jwk, "y", &point[1 + len..])?;
            if purpose == KeyPurpose::Signature {
                jwk.set_algorithm(alg.name());
            }
            jwk
        }
        Material::Rsa { n, e } => {
            let mut jwk = Jwk::new("RSA");
            set(&mut jwk, "n", n)?;
            set(&mut jwk, "e", e)?;
            jwk
        }
    };
    if let Some(kid) = kid {
        jwk.set_key_id(kid);
    }
    if let Some(text) = purpose.member() {
        jwk.set_key_use(text);
    }
    Ok(jwk)
}

fn set(jwk: &mut Jwk, name: &'static str, bytes: &[u8]) -> Result<(), JwkError> {
    jwk.set_parameter(name, Some(b64::encode(bytes).into())).map_err(|_| JwkError::Member(name))
}

/// The SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410 section 4).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// RFC 7638 thumbprint: base64url of SHA-256 over the required members in lexicographic order. Knows Ed25519 too
/// (RFC 8037 section 2): the journal's key has an id, though it verifies no token.
pub fn thumbprint(spki_der: &[u8]) -> Result<String, JwkError> {
    if let Some(x) = spki_der.strip_prefix(&ED25519_SPKI).filter(|x| x.len() == 32) {
        return Ok(digest(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64::encode(x))));
    }
    let text = match Material::from_spki(spki_der)? {
        Material::Ec { alg, point } => {
            let (crv, len) = curve(alg).ok_or(JwkError::Unsupported)?;
            let (x, y) = (b64::encode(&point[1..=len]), b64::encode(&point[1 + len..]));
            format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
        Material::Rsa { n, e } => {
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64::encode(&e), b64::encode(&n))
        }
    };
    Ok(digest(&text))
}

fn digest(text: &str) -> String {
    b64::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
}

/// A JWKS document of these JWKs.
pub(crate) fn document(keys: Vec<Value>) -> Value {
    json!({ "keys": keys })
}
