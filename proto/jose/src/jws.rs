//! The signature layer: a compact JWS (RFC 7515 section 7.1) of bounded size, a header of three known members, an
//! allowed algorithm, one key. Says nothing about claims.

use crate::{
    alg::Alg,
    b64,
    json::parse_object,
    keyset::{Choice, KeySet},
    verify::JwtError,
};
use josekit::{JoseError, jws};
use serde_json::{Map, Value};

/// Longest token looked at, bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
const MAX_KID: usize = 256;

/// Evidence that a signature over `payload` holds. Made by [`verify_jws`] only.
#[derive(Clone, Debug)]
pub struct VerifiedJws {
    payload: Vec<u8>,
    kid: Option<String>,
    alg: Alg,
}

impl VerifiedJws {
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
    /// The id of the key that verified it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
    pub fn alg(&self) -> Alg {
        self.alg
    }
}

/// Verifies a compact JWS. `typs`: the accepted `typ` values, compared without case as media types are; `""` stands
/// for an absent one.
pub fn verify_jws(token: &str, algs: &[Alg], typs: &[&str], keys: &KeySet) -> Result<VerifiedJws, JwtError> {
    let [header, _, _] = parts(token)?;
    let header = Head::read(header, typs)?;
    if !algs.contains(&header.alg) {
        return Err(JwtError::Algorithm);
    }
    let key = keys.choose(header.kid.as_deref(), header.alg).map_err(|e| match e {
        Choice::UnknownKid => JwtError::UnknownKey,
        Choice::OtherAlg => JwtError::KeyAlgorithm,
        Choice::Ambiguous => JwtError::NoKid,
    })?;
    let verifier = key.verifier(header.alg).ok_or(JwtError::KeyAlgorithm)?;
    let checked = jws::deserialize_compact_with_selector(token, |_| Ok(Some(verifier)));
    let (payload, _) = checked.map_err(|e| match e {
        JoseError::InvalidSignature(_) => JwtError::Signature,
        _ => JwtError::Encoding,
    })?;
    Ok(VerifiedJws { payload, kid: key.kid().map(String::from), alg: header.alg })
}

/// Header, payload and signature, each non-empty.
pub(crate) fn parts(token: &str) -> Result<[&str; 3], JwtError> {
    if token.len() > MAX_TOKEN {
        return Err(JwtError::TooLong(token.len()));
    }
    let mut split = token.splitn(4, '.');
    match (split.next(), split.next(), split.next(), split.next()) {
        (Some(h), Some(p), Some(s), None) if !h.is_empty() && !p.is_empty() && !s.is_empty() => Ok([h, p, s]),
        _ => Err(JwtError::Parts),
    }
}

struct Head {
    alg: Alg,
    kid: Option<String>,
}

impl Head {
    fn read(encoded: &str, typs: &[&str]) -> Result<Self, JwtError> {
        let json = b64::decode(encoded).ok_or(JwtError::Encoding)?;
        let header = parse_object(&json).map_err(|_| JwtError::Header)?;
        if let Some(member) = header.keys().find(|k| !matches!(k.as_str(), "alg" | "kid" | "typ")) {
            return Err(JwtError::HeaderMember(proto_types::id::excerpt(member)));
        }
        let alg = text(&header, "alg")?.and_then(Alg::from_name).ok_or(JwtError::Algorithm)?;
        let typ = text(&header, "typ")?.unwrap_or("");
        if !typs.iter().any(|t| t.eq_ignore_ascii_case(typ)) {
            return Err(JwtError::Type(proto_types::id::excerpt(typ)));
        }
        let kid = text(&header, "kid")?;
        if kid.is_some_and(|k| k.is_empty() || k.len() > MAX_KID) {
            return Err(JwtError::UnknownKey);
        }
        Ok(Self { alg, kid: kid.map(String::from) })
    }
}

fn text<'a>(header: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, JwtError> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(_) => Err(JwtError::Header),
    }
}
