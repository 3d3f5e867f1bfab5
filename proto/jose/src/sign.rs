//! Compact JWTs with ES256 (RFC 7515 section 7.1). The signature comes from outside, so that a key has no export.

use crate::{alg::Alg, b64};
use josekit::jws::JwsHeader;
use serde_json::{Map, Value};

/// The encoded header of every token of one key and one `typ`; made once, used for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    typ: String,
    encoded: String,
}

impl Header {
    /// `alg` ES256, `kid` and `typ`: the only members JWT-SVID section 2 allows.
    pub fn es256(kid: &str, typ: &str) -> Self {
        let mut header = JwsHeader::new();
        header.set_algorithm(Alg::Es256.name());
        header.set_key_id(kid);
        header.set_token_type(typ);
        let json = Value::Object(header.into()).to_string();
        Self { typ: typ.into(), encoded: b64::encode(json.as_bytes()) }
    }
    pub fn typ(&self) -> &str {
        &self.typ
    }
}

/// Signs `claims`. `signer` gets the signing input and answers with the ES256 signature in P1363 form (64 bytes).
pub fn sign<E>(
    header: &Header,
    claims: &Map<String, Value>,
    signer: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    // Serialising a map of values to memory cannot fail: keys are strings and numbers are finite.
    let payload = serde_json::to_vec(claims).expect("a JSON map serialises");
    let mut token = String::with_capacity(header.encoded.len() + payload.len() * 4 / 3 + 92);
    token.push_str(&header.encoded);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
    let signature = signer(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
    Ok(token)
}
