//! The one verifier of JWTs: signature first, then every claim that was demanded. Only verified bytes are read.
//!
//! A claim of the wrong JSON type is refused, never taken for absent.

use crate::{
    b64,
    expect::{Audience, Expect, Subject},
    json::parse_object,
    jws::{parts, verify_jws},
    keyset::KeySet,
};
use proto_types::{
    SpiffeId, Timestamp, TrustDomain,
    id::{excerpt, parse_spiffe_id},
};
use serde_json::{Map, Value};

/// Most values of `aud`.
const MAX_AUDIENCES: usize = 64;

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("a token has at most 16384 bytes, this one has {0}")]
    TooLong(usize),
    #[error("not a compact JWS: three non-empty parts joined by two dots are needed")]
    Parts,
    #[error("a part of the token is not base64url without padding")]
    Encoding,
    #[error("the header is not a JSON object with text members, each once")]
    Header,
    #[error("the header has the member `{0}`; only alg, kid and typ are allowed")]
    HeaderMember(String),
    #[error("the algorithm is missing or not allowed for this kind of token")]
    Algorithm,
    #[error("the type `{0}` is not the one of this kind of token")]
    Type(String),
    #[error("no trusted key has the token's key id; fetch the issuer's keys again")]
    UnknownKey,
    #[error("the token names no key and several would suit; send a kid")]
    NoKid,
    #[error("the token's algorithm is not one of its key")]
    KeyAlgorithm,
    #[error("the signature does not verify")]
    Signature,
    #[error("the payload is not a JSON object without repeated members")]
    Payload,
    #[error("the claim `{0}` is missing")]
    Missing(&'static str),
    #[error("the claim `{0}` has the wrong type")]
    Mistyped(&'static str),
    #[error("expired at {0}; fetch a new token")]
    Expired(Timestamp),
    #[error("not valid before {0}; compare the clocks")]
    NotYet(Timestamp),
    #[error("issued in the future, at {0}; compare the clocks")]
    IssuedLater(Timestamp),
    #[error("lives longer than this kind of token may")]
    TooLongLived,
    #[error("meant for another audience; this one is `{wanted}`")]
    Audience { wanted: String },
    #[error("meant for others too; `{wanted}` must be its only audience")]
    Audiences { wanted: String },
    #[error("issued by another issuer; `{wanted}` is expected")]
    Issuer { wanted: String },
    #[error("the subject `{0}` is not an identity that these keys speak for")]
    Subject(String),
}

/// Evidence that a token was verified against an [`Expect`]. Made by [`verify_jwt`] only.
#[derive(Clone, Debug)]
pub struct VerifiedJwt {
    claims: Map<String, Value>,
    kid: Option<String>,
    subject: String,
    spiffe_id: Option<SpiffeId>,
    expires_at: Timestamp,
}

impl VerifiedJwt {
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
    pub fn subject(&self) -> &str {
        &self.subject
    }
    /// Set where the subject had to be a member of a trust domain.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.spiffe_id.as_ref()
    }
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
    /// A claim that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }
}

/// Verifies `token` with `keys` at `now` and checks every demand of `expect`.
pub fn verify_jwt(token: &str, expect: &Expect, keys: &KeySet, now: Timestamp) -> Result<VerifiedJwt, JwtError> {
    let jws = verify_jws(token, expect.algs, expect.typs, keys)?;
    let claims = parse_object(jws.payload()).map_err(|_| JwtError::Payload)?;
    let expires_at = times(&claims, expect, now)?;
    audience(&claims, &expect.audience)?;
    if let Some(wanted) = &expect.issuer {
        match text(&claims, "iss")? {
            Some(iss) if iss == wanted => {}
            Some(_) => return Err(JwtError::Issuer { wanted: excerpt(wanted) }),
            None => return Err(JwtError::Missing("iss")),
        }
    }
    if expect.jti && text(&claims, "jti")?.is_none_or(str::is_empty) {
        return Err(JwtError::Missing("jti"));
    }
    let subject = text(&claims, "sub")?.filter(|s| !s.is_empty()).ok_or(JwtError::Missing("sub"))?.to_string();
    let spiffe_id = match &expect.subject {
        Subject::Any => None,
        Subject::MemberOf(td) => Some(member(&subject, td)?),
    };
    Ok(VerifiedJwt { kid: jws.kid().map(String::from), subject, spiffe_id, expires_at, claims })
}

/// The trust domain a JWT-SVID *claims*, unverified: only good for choosing the keys to verify it with.
pub fn claimed_trust_domain(token: &str) -> Result<TrustDomain, JwtError> {
    let [_, payload, _] = parts(token)?;
    let claims = b64::decode(payload).ok_or(JwtError::Encoding)?;
    let claims = parse_object(&claims).map_err(|_| JwtError::Payload)?;
    let subject = text(&claims, "sub")?.ok_or(JwtError::Missing("sub"))?;
    let id = parse_spiffe_id(subject).map_err(|_| JwtError::Subject(excerpt(subject)))?;
    Ok(id.trust_domain().clone())
}

fn member(subject: &str, td: &TrustDomain) -> Result<SpiffeId, JwtError> {
    let fail = || JwtError::Subject(excerpt(subject));
    let id = parse_spiffe_id(subject).map_err(|_| fail())?;
    // A workload's ID has a path (SPIFFE-ID section 2.2): the trust domain itself is nobody's name.
    if id.trust_domain() == td && !id.path().is_empty() { Ok(id) } else { Err(fail()) }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(_) => Err(JwtError::Mistyped(name)),
    }
}

/// A NumericDate (RFC 7519 section 2) that is a whole number of seconds from 1970 to 9999.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(v) => match v.as_i64() {
            Some(secs @ 0..=253_402_300_799) => Ok(Some(Timestamp::from_secs(secs))),
            _ => Err(JwtError::Mistyped(name)),
        },
    }
}

fn times(claims: &Map<String, Value>, expect: &Expect, now: Timestamp) -> Result<Timestamp, JwtError> {
    let exp = date(claims, "exp")?.ok_or(JwtError::Missing("exp"))?;
    let (nbf, iat) = (date(claims, "nbf")?, date(claims, "iat")?);
    // RFC 7519 section 4.1.4: "on or after" exp is too late.
    if now >= exp.plus(expect.leeway) {
        return Err(JwtError::Expired(exp));
    }
    if let Some(nbf) = nbf.filter(|t| *t > now.plus(expect.leeway)) {
        return Err(JwtError::NotYet(nbf));
    }
    if let Some(iat) = iat.filter(|t| *t > now.plus(expect.leeway)) {
        return Err(JwtError::IssuedLater(iat));
    }
    if let Some(longest) = expect.max_life {
        let iat = iat.ok_or(JwtError::Missing("iat"))?;
        if exp.since(iat) > longest {
            return Err(JwtError::TooLongLived);
        }
    }
    Ok(exp)
}

/// Exact matches, byte for byte; a string or an array of strings (RFC 7519 section 4.1.3).
fn audience(claims: &Map<String, Value>, wanted: &Audience) -> Result<(), JwtError> {
    let named: Vec<&str> = match claims.get("aud") {
        None => return Err(JwtError::Missing("aud")),
        Some(Value::String(s)) => vec![s],
        Some(Value::Array(all)) if all.len() <= MAX_AUDIENCES && all.iter().all(Value::is_string) => {
            all.iter().filter_map(Value::as_str).collect()
        }
        Some(_) => return Err(JwtError::Mistyped("aud")),
    };
    // An empty name would match an empty audience.
    let is = |wanted: &str, s: &str| !wanted.is_empty() && s == wanted;
    match wanted {
        Audience::Any => Ok(()),
        Audience::Among(one) | Audience::Only(one) if !named.iter().any(|s| is(one, s)) => {
            Err(JwtError::Audience { wanted: excerpt(one) })
        }
        Audience::Only(one) if named.len() > 1 => Err(JwtError::Audiences { wanted: excerpt(one) }),
        Audience::Among(_) | Audience::Only(_) => Ok(()),
    }
}
