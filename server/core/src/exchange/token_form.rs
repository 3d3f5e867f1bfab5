//! The bodies of introspection (RFC 7662 section 2.1) and revocation (RFC 7009 section 2.1): one token.
//!
//! `token_type_hint` is not read, as both leave a server free to do: a token says by its own `typ` what it is.

use super::{
    error::{OAuthError, invalid_client, invalid_request},
    form::ExchangeForm,
};
use proto_types::Secret;

/// The token that is asked about or ended. It is not verified yet, and may be anything.
#[derive(Debug)]
pub struct TokenForm {
    pub token: Secret<String>,
    client_id: Option<String>,
}

impl TokenForm {
    pub fn read(form: &ExchangeForm) -> Result<Self, OAuthError> {
        let token = form.get("token").ok_or_else(|| invalid_request("token is missing; send the token itself"))?;
        Ok(Self { token: Secret::new(token.into()), client_id: form.get("client_id").map(str::to_string) })
    }

    /// A `client_id`, when one was sent, names the client that is authenticated.
    pub fn comes_from(&self, client: &str) -> Result<(), OAuthError> {
        match &self.client_id {
            Some(named) if named != client => {
                Err(invalid_client("client_id names another client than the one that is authenticated; leave it out"))
            }
            _ => Ok(()),
        }
    }
}
