//! `authorization_details` (RFC 9396): a JSON array of objects with a `type` that narrows what one role's credential may do.
//!
//! Decides that the list is well formed. What members of its own a kind of target knows, the kind decides.

use super::{
    error::{OAuthCode, OAuthError},
    json,
};
use crate::ports::KeyFormat;
use proto_types::parse_duration;
use serde_json::{Map, Value};
use std::time::Duration;

/// The type whose `public_key` is what an `ssh` or `x509` credential is made for.
pub const KEY_TYPE: &str = "urn:errand:key";
const MAX_BYTES: usize = 16 * 1024;
const MAX_DEPTH: usize = 16;
const MAX_OBJECTS: usize = 16;
/// Longest public key, bytes: an RSA key of 16384 bits fits; what is larger is no key that anybody uses.
const MAX_KEY: usize = 4096;

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

    /// The caller's public key, exactly as sent, in the format the role asks for. A key that nobody asked for is refused:
    /// it would be ignored.
    pub fn key(&self, wanted: Option<KeyFormat>) -> Result<Option<String>, OAuthError> {
        let mut sent = self.0.iter().filter(|o| is_key(o));
        let (first, second) = (sent.next(), sent.next());
        match (wanted, first, second) {
            (None, None, _) => Ok(None),
            (None, Some(_), _) => Err(invalid("this role is issued for no key; leave urn:errand:key out")),
            (Some(format), None, _) => Err(invalid(format!(
                "this role is issued for a key of yours: send {{'type':'{KEY_TYPE}','public_key':...}}, {}",
                match format {
                    KeyFormat::OpenSsh => "an OpenSSH line such as ssh-ed25519 AAAA...",
                    KeyFormat::Spki => "a base64 SubjectPublicKeyInfo",
                }
            ))
            .wants_key(format)),
            (Some(_), Some(_), Some(_)) => Err(invalid("one credential is for one key; send urn:errand:key once")),
            (Some(_), Some(one), None) => {
                let key = one.get("public_key").and_then(Value::as_str).filter(|k| (1..=MAX_KEY).contains(&k.len()));
                let key = key.ok_or_else(|| invalid(format!("public_key is a string of at most {MAX_KEY} bytes")))?;
                Ok(Some(key.to_string()))
            }
        }
    }

    /// What the target gets: null, or the one object beside the key without the members that are read here (`ttl`).
    pub fn params(&self) -> Result<Value, OAuthError> {
        let mut own = self.0.iter().filter(|o| !is_key(o));
        match (own.next(), own.next()) {
            (None, _) => Ok(Value::Null),
            (Some(one), None) => {
                let mut one = one.clone();
                one.remove("ttl");
                Ok(Value::Object(one))
            }
            (Some(_), Some(_)) => {
                Err(invalid("one credential takes one object of authorization_details; ask for them one by one"))
            }
        }
    }
}

fn is_key(object: &Map<String, Value>) -> bool {
    object.get("type").is_some_and(|t| t == KEY_TYPE)
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
