//! From a template to a signed JWT: `exp`, `iat`, `jti` and `nbf` come from the template's own fields, never from its
//! claims, and `exp` ends with the key.

use crate::key::sign_es256;
use aws_lc_rs::signature::EcdsaKeyPair;
use proto_jose::Header;
use proto_types::Timestamp;
use server_core::ports::{JwtTemplate, SignError, SignedJwt};

/// The `typ` values that are signed often; their headers are encoded once per key.
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// A token key in use.
pub(crate) struct JwtSigner {
    kid: String,
    key: EcdsaKeyPair,
    not_after: Timestamp,
    headers: [Header; 2],
}

impl JwtSigner {
    pub(crate) fn new(kid: String, key: EcdsaKeyPair, not_after: Timestamp) -> Self {
        let headers = TYPES.map(|typ| Header::es256(&kid, typ));
        Self { kid, key, not_after, headers }
    }

    pub(crate) fn sign(&self, template: &JwtTemplate) -> Result<SignedJwt, SignError> {
        let expires_at = Timestamp::from_secs(template.expires_at.min(self.not_after).as_secs());
        if expires_at <= template.issued_at {
            return Err(SignError::NoActiveKey(template.key_use.as_str()));
        }
        let mut claims = template.claims.clone();
        let reserved = ["exp", "iat", "nbf", "jti"].iter().any(|name| claims.contains_key(*name));
        if reserved || !claims.contains_key("sub") || !claims.contains_key("aud") {
            return Err(SignError::Refused("a token has sub and aud, and its times come from its template".into()));
        }
        claims.insert("exp".into(), expires_at.as_secs().into());
        claims.insert("iat".into(), template.issued_at.as_secs().into());
        claims.insert("jti".into(), template.jti.as_str().into());
        if let Some(nbf) = template.not_before {
            claims.insert("nbf".into(), nbf.as_secs().into());
        }
        let rare;
        let header = match self.headers.iter().find(|h| h.typ() == template.typ) {
            Some(header) => header,
            None => {
                rare = Header::es256(&self.kid, template.typ);
                &rare
            }
        };
        let token = proto_jose::sign(header, &claims, |bytes| sign_es256(&self.key, bytes))
            .map_err(|e| SignError::Unavailable(e.to_string()))?;
        Ok(SignedJwt { token: token.into(), expires_at })
    }
}
