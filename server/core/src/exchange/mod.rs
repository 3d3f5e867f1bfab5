//! RFC 8693 as a pipeline of types: bytes → [`ExchangeForm`] → [`ExchangeRequest`] → [`Admitted`] → `not_after`.
//!
//! Each step consumes what the one before proved. Nothing here verifies a signature, asks policy or touches a target;
//! an answer is either a [`TokenResponse`] or an [`OAuthError`], so that an error never has a token beside it.

mod admit;
mod client;
mod details;
mod error;
mod fingerprint;
mod form;
mod json;
mod narrow;
mod request;
mod resource;
mod response;

pub use admit::{Admitted, Proven};
pub use client::ClientAuth;
pub use details::{Details, KEY_TYPE};
pub use error::{OAuthCode, OAuthError};
pub use fingerprint::{fingerprint, idempotency_key};
pub use form::{ExchangeForm, MAX_BODY, MAX_PARAMS, no_query};
pub use narrow::{Limits, MAX_TASK_TOKEN, narrow, narrow_task_token};
pub use request::{ExchangeRequest, Goal, Subject, SubjectType, Surroundings, TokenType};
pub use response::TokenResponse;
