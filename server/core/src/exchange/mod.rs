//! RFC 8693 as a pipeline of types: bytes → [`ExchangeForm`] → [`ExchangeRequest`] → [`Admitted`] → `not_after`.
//!
//! Beside it, of the same form: a [`TokenForm`] that asks about a [`LiveToken`] or ends it.
//!
//! Each step consumes what the one before proved. Nothing here verifies a signature, asks policy or touches a target;
//! an answer is either a [`TokenResponse`] or an [`OAuthError`], so that an error never has a token beside it.

mod admit;
mod client;
mod details;
mod error;
mod fingerprint;
mod form;
mod introspection;
mod json;
mod narrow;
mod request;
mod resource;
mod response;
mod token_form;

pub use admit::{Admitted, Proven};
pub use client::ClientAuth;
pub use details::{Details, KEY_TYPE};
pub use error::{OAuthCode, OAuthError};
pub use fingerprint::{claim_of, fingerprint, first_attempt, idempotency_key};
pub use form::{ExchangeForm, MAX_BODY, MAX_PARAMS, no_query};
pub use introspection::{Asker, Introspection, LiveToken, TokenKind};
pub use narrow::{Limits, MAX_TASK_TOKEN, narrow, narrow_task_token};
pub use request::{ExchangeRequest, Goal, Subject, SubjectType, Surroundings, TokenType};
pub use response::{JournalPlace, TokenResponse};
pub use token_form::TokenForm;
