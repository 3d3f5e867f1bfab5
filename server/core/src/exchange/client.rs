//! How a client says who it is at `/oauth2/*` (RFC 7521 section 4.2, RFC 8705 section 2).
//!
//! Decides which method was used, and that it was one. Verifying the certificate or the assertion is the service's.

use super::{
    error::{OAuthError, invalid_client, invalid_request},
    form::ExchangeForm,
};
use proto_types::Secret;

const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// The one method used. A certificate beside an assertion is one method: the certificate makes the assertion,
/// which alone is replayable, fit for an exchange; both must prove the same workload.
#[derive(Debug)]
pub enum ClientAuth {
    /// The mTLS X.509-SVID of the connection.
    Certificate,
    /// A JWT-SVID for this issuer, `jwt-spiffe`.
    Assertion { jwt: Secret<String>, certificate: bool },
}

impl ClientAuth {
    /// `authorization`: an `Authorization` header came along. `certificate`: the connection has a verified certificate.
    pub fn read(form: &ExchangeForm, authorization: bool, certificate: bool) -> Result<Self, OAuthError> {
        let assertion = form.get("client_assertion");
        let kind = form.get("client_assertion_type");
        let others = usize::from(authorization) + usize::from(form.get("client_secret").is_some());
        if others + usize::from(assertion.is_some() || certificate) > 1 {
            return Err(invalid_request(
                "authenticate the client by one method: mTLS, or a jwt-spiffe client_assertion",
            ));
        }
        if others > 0 {
            return Err(invalid_client("client secrets are not accepted; use mTLS with an X.509-SVID, or jwt-spiffe"));
        }
        match (assertion, kind) {
            (None, None) if certificate => Ok(Self::Certificate),
            (None, None) => Err(invalid_client(
                "the client is not authenticated; use the mTLS endpoint with an X.509-SVID, or a jwt-spiffe assertion",
            )),
            (Some(jwt), Some(JWT_SPIFFE)) => Ok(Self::Assertion { jwt: Secret::new(jwt.into()), certificate }),
            (Some(_), Some(_)) => Err(invalid_client(format!("the only client_assertion_type here is {JWT_SPIFFE}"))),
            _ => Err(invalid_request("client_assertion and client_assertion_type come together")),
        }
    }
}
