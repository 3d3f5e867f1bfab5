//! The body of a token request as a form (RFC 6749 section 3.2 and appendix B): bounded, strict, each parameter once.
//!
//! Decides what was said, not what it means: [`super::ExchangeRequest`] reads it.

use super::error::{OAuthError, invalid_request};
use proto_types::{Secret, id::excerpt};
use std::{collections::BTreeMap, fmt};

/// Longest body, bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Most parameters, repeated and unknown ones counted.
pub const MAX_PARAMS: usize = 64;
/// The parameters RFC 8693 section 2.1 lets repeat.
const REPEATABLE: [&str; 2] = ["audience", "resource"];
/// Carries JSON, whose white space holds control characters.
const JSON_PARAMETER: &str = "authorization_details";

/// Parameters by name. Values may be tokens: they are secrets, and `Debug` shows names only.
pub struct ExchangeForm {
    values: BTreeMap<String, Vec<Secret<String>>>,
}

impl ExchangeForm {
    /// Reads `application/x-www-form-urlencoded`, in UTF-8. Never reads more than [`MAX_BODY`] bytes.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<Self, OAuthError> {
        form_content_type(content_type)?;
        if body.len() > MAX_BODY {
            return Err(invalid_request(format!(
                "a token request has at most {MAX_BODY} bytes; ask for less at a time"
            )));
        }
        let mut values: BTreeMap<String, Vec<Secret<String>>> = BTreeMap::new();
        let pairs = body.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
        for (at, pair) in pairs.enumerate() {
            if at == MAX_PARAMS {
                return Err(invalid_request(format!("a token request has at most {MAX_PARAMS} parameters")));
            }
            let (name, value) = parameter(pair)?;
            let known = values.entry(name).or_default();
            known.push(Secret::new(value));
        }
        let twice = values.iter().find(|(name, all)| all.len() > 1 && !REPEATABLE.contains(&name.as_str()));
        match twice {
            Some((name, _)) => Err(invalid_request(format!("{} is given more than once; send it once", excerpt(name)))),
            None => Ok(Self { values }),
        }
    }

    /// A parameter's value. One sent without a value counts as not sent (RFC 6749 section 3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|v| !v.is_empty())
    }
    /// A parameter's value, empty when it was sent without one.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.first().map(|v| v.expose().as_str())
    }
    /// Every non-empty value of a repeatable parameter, in the order sent.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.get(name).into_iter().flatten().map(|v| v.expose().as_str()).filter(|v| !v.is_empty())
    }
}

impl fmt::Debug for ExchangeForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeForm({} parameters)", self.values.len())
    }
}

/// A token request has no query: what stands in a URL ends in logs. `None` and an empty one are the same.
pub fn no_query(query: Option<&str>) -> Result<(), OAuthError> {
    match query {
        None | Some("") => Ok(()),
        Some(_) => Err(invalid_request("parameters go in the body of the request, never in its URL")),
    }
}

fn form_content_type(header: &str) -> Result<(), OAuthError> {
    let fail = || invalid_request("send the request as application/x-www-form-urlencoded in UTF-8");
    let mut parts = header.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(fail());
    }
    for parameter in parts.filter(|p| !p.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or_else(fail)?;
        let utf8 = value.trim_matches('"').eq_ignore_ascii_case("utf-8");
        if !name.trim().eq_ignore_ascii_case("charset") || !utf8 {
            return Err(fail());
        }
    }
    Ok(())
}

fn parameter(pair: &[u8]) -> Result<(String, String), OAuthError> {
    let (name, value) = match pair.iter().position(|b| *b == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[][..]),
    };
    let name = decode(name)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(invalid_request("a parameter has no name or one with control characters"));
    }
    let value = decode(value)?;
    let json_space = |c: char| name == JSON_PARAMETER && matches!(c, '\t' | '\n' | '\r');
    if value.chars().any(|c| c.is_control() && !json_space(c)) {
        return Err(invalid_request(format!("the value of {} has control characters", excerpt(&name))));
    }
    Ok((name, value))
}

/// Strict: `%` has two hex digits, everything not escaped is printable ASCII, the result is UTF-8.
fn decode(text: &[u8]) -> Result<String, OAuthError> {
    let fail = || invalid_request("the body is not percent-encoded UTF-8; encode each name and value");
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()).ok_or_else(fail)? << 4 | hex(rest.next()).ok_or_else(fail)?,
            0x21..=0x7e => *byte,
            _ => return Err(fail()),
        });
    }
    String::from_utf8(out).map_err(|_| fail())
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    char::from(*digit?).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
