//! The SPIFFE bundle document (SPIFFE Trust Domain and Bundle section 4): a JWKS with two members more.

use crate::jwk::{JwkError, KeyPurpose, jwk, jwk_from_spki};
use crate::key::Material;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a trust domain publishes.
#[derive(Clone, Copy, Debug)]
pub struct BundleParts<'a> {
    /// CA certificates, DER.
    pub x509: &'a [Vec<u8>],
    /// (kid, SubjectPublicKeyInfo DER) of JWT-SVID keys.
    pub jwt: &'a [(&'a str, &'a [u8])],
    pub sequence: u64,
    /// Seconds.
    pub refresh_hint: u64,
}

/// The bundle document: `x509-svid` keys with one certificate and no `kid` (X509-SVID section 6.1), `jwt-svid` keys
/// with a `kid` (JWT-SVID section 6.1), the sequence and the refresh hint.
pub fn spiffe_bundle_json(parts: &BundleParts<'_>) -> Result<Value, JwkError> {
    let mut keys = Vec::with_capacity(parts.x509.len() + parts.jwt.len());
    for der in parts.x509 {
        keys.push(x509_key(der)?);
    }
    for (kid, spki) in parts.jwt {
        keys.push(jwk_from_spki(spki, Some(kid), KeyPurpose::JwtSvid)?);
    }
    Ok(json!({
        "keys": keys,
        "spiffe_sequence": parts.sequence,
        "spiffe_refresh_hint": parts.refresh_hint,
    }))
}

fn x509_key(der: &[u8]) -> Result<Value, JwkError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| JwkError::Malformed)?;
    let mut key = jwk(&Material::from_spki(cert.public_key().raw)?, None, KeyPurpose::X509Svid)?;
    // RFC 7517 section 4.7: base64, not base64url.
    let chain = Value::Array(vec![STANDARD.encode(der).into()]);
    key.set_parameter("x5c", Some(chain)).map_err(|_| JwkError::Member("x5c"))?;
    Ok(Value::Object(key.into()))
}
