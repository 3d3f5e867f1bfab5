//! The errors of `/oauth2/*` (RFC 6749 section 5.2, RFC 7009 section 2.2.1, RFC 8693 section 2.2.2, RFC 9396 section 5,
//! CIBA section 11).
//!
//! An `OAuthError` holds a code and a sentence, never a token: the type has no room for one.

use crate::ports::KeyFormat;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// A stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OAuthCode {
    InvalidRequest,
    InvalidClient,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidTarget,
    InvalidScope,
    InvalidAuthorizationDetails,
    AccessDenied,
    /// Revocation of what cannot be called back.
    UnsupportedTokenType,
    /// Too many failed authentications from where the caller is (429).
    TooManyAttempts,
    /// Journal, policy, clock or store is in doubt: nothing is issued (503).
    TemporarilyUnavailable,
    ServerError,
}

impl OAuthCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidAuthorizationDetails => "invalid_authorization_details",
            Self::AccessDenied => "access_denied",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::TooManyAttempts | Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
    /// The HTTP status it travels with.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidClient => 401,
            Self::TooManyAttempts => 429,
            Self::TemporarilyUnavailable => 503,
            Self::ServerError => 500,
            Self::InvalidRequest
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::InvalidTarget
            | Self::InvalidScope
            | Self::InvalidAuthorizationDetails
            | Self::AccessDenied
            | Self::UnsupportedTokenType => 400,
        }
    }
}

/// `{error, error_description}`, and `key_format` where a key is missing; the description says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {description}", code.as_str())]
pub struct OAuthError {
    code: OAuthCode,
    description: String,
    key_format: Option<KeyFormat>,
}

/// Longest description, characters: what a policy or a target said may be long.
const MAX_DESCRIPTION: usize = 400;

impl OAuthError {
    /// The description is cut, and held to the characters RFC 6749 allows there: printable ASCII without `"` and `\`.
    pub fn new(code: OAuthCode, description: impl AsRef<str>) -> Self {
        let plain = |c: char| match c {
            '"' | '`' => '\'',
            '\\' => '/',
            ' '..='~' => c,
            _ => '?',
        };
        let description = description.as_ref().chars().take(MAX_DESCRIPTION).map(plain).collect();
        Self { code, description, key_format: None }
    }
    /// Says which key is missing, as the member `key_format`: a client that knows no kind of target can then send one.
    pub fn wants_key(self, format: KeyFormat) -> Self {
        Self { key_format: Some(format), ..self }
    }
    pub fn code(&self) -> OAuthCode {
        self.code
    }
    pub fn description(&self) -> &str {
        &self.description
    }
    pub fn status(&self) -> u16 {
        self.code.status()
    }
}

impl Serialize for OAuthError {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("OAuthError", 3)?;
        out.serialize_field("error", self.code.as_str())?;
        out.serialize_field("error_description", &self.description)?;
        match self.key_format {
            Some(format) => out.serialize_field("key_format", format.as_str())?,
            None => out.skip_field("key_format")?,
        }
        out.end()
    }
}

pub(super) fn invalid_request(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(OAuthCode::InvalidRequest, description)
}

pub(super) fn invalid_target(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(OAuthCode::InvalidTarget, description)
}

pub(super) fn invalid_scope(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(OAuthCode::InvalidScope, description)
}

pub(super) fn invalid_client(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(OAuthCode::InvalidClient, description)
}
