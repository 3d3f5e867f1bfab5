//! `authorization_details` (RFC 9396): a JSON array of objects with a `type` that narrows what one role's credential may do.
//!
//! Decides that the list is well formed. What members of its own a kind of target knows, the kind decides.

use super::{
    error::{OAuthCode, OAuthError},
    json,
};
use proto_types::parse_duration;
use serde_json::{Map, Value};
use std::time::Duration;

/// The type whose `public_key` is what an `ssh` or `x509` credential is made for.
pub const KEY_TYPE: &str = "urn:errand:key";
const MAX_BYTES: usize = 16 * 1024;
const MAX_DEPTH: usize = 16;
const MAX_OBJECTS: usize = 16;

/// A checked list. Parameters are data: nothing in them is authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details(Vec<Map<String, Value>>);

impl Details {
    pub(super) fn parse(text: &str) -> Result<Self, OAuthError> {
        if text.len() > MAX_BYTES {
            return Err(invalid(format!("authorization_details has at most {MAX_BYTES} bytes")));
        }
        let why = "authorization_details is a JSON array of objects, at most 16 deep, no member twice";
        let Ok(Value::Array(items)) = json::parse(text, MAX_DEPTH) else { return Err(invalid(why)) };
        if items.len() > MAX_OBJECTS {
            return Err(invalid(format!("authorization_details has at most {MAX_OBJECTS} objects")));
        }
        let objects = items.into_iter().map(object).collect::<Result<_, _>>()?;
        let details = Self(objects);
        details.ttl()?;
        Ok(details)
    }

    pub fn objects(&self) -> &[Map<String, Value>] {
        &self.0
    }

    /// The shortest `ttl` that was asked for.
    pub fn ttl(&self) -> Result<Option<Duration>, OAuthError> {
        let mut least: Option<Duration> = None;
        for value in self.0.iter().filter_map(|o| o.get("ttl")) {
            let ttl = value.as_str().and_then(|t| parse_duration(t).ok()).filter(|t| *t >= Duration::from_secs(1));
            let ttl =
                ttl.ok_or_else(|| invalid("ttl in authorization_details is a duration of at least 1s, such as 5m"))?;
            least = Some(least.map_or(ttl, |l| l.min(ttl)));
        }
        Ok(least)
    }

    /// The caller's public key, exactly as sent: an OpenSSH line or a base64 SubjectPublicKeyInfo.
    pub fn public_key(&self) -> Option<&str> {
        self.0.iter().find(|o| o["type"] == KEY_TYPE)?.get("public_key")?.as_str()
    }

    /// What the target gets: null, or the one object without the members that are read here (`ttl`).
    pub fn params(&self) -> Result<Value, OAuthError> {
        match &self.0[..] {
            [] => Ok(Value::Null),
            [one] => {
                let mut one = one.clone();
                one.remove("ttl");
                Ok(Value::Object(one))
            }
            _ => Err(invalid("one credential takes one object of authorization_details; ask for them one by one")),
        }
    }
}

fn object(item: Value) -> Result<Map<String, Value>, OAuthError> {
    let Value::Object(fields) = item else { return Err(invalid("authorization_details holds objects only")) };
    match fields.get("type") {
        Some(Value::String(t)) if (1..=256).contains(&t.len()) && !t.chars().any(char::is_control) => Ok(fields),
        _ => Err(invalid("each object of authorization_details has a type, a string of 1 to 256 bytes")),
    }
}

fn invalid(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(OAuthCode::InvalidAuthorizationDetails, description)
}
