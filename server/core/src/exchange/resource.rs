//! `resource` (RFC 8707 section 2): an absolute http(s) URI without fragment or user information.
//!
//! A strict list of what may stand in it instead of a general URL parser: a resource is compared byte for byte with
//! what was registered, so nothing is normalised and nothing that would need it is let in.

use super::error::{OAuthError, invalid_target};

const MAX_BYTES: usize = 2048;

pub(super) fn check(text: &str) -> Result<&str, OAuthError> {
    let fail = || invalid_target("a resource is an absolute http or https URI without fragment and user information");
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(fail)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if text.len() <= MAX_BYTES && is_authority(authority) && path.bytes().all(is_uri_byte) {
        Ok(text)
    } else {
        Err(fail())
    }
}

/// `host[:port]`; the host a name, an IPv4 address or a bracketed IPv6 address.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, after)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", after),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    let port_ok = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok_and(|p| p > 0) && digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    named && port_ok
}

/// Unreserved, reserved and `%` of RFC 3986, without `#` and brackets.
fn is_uri_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&b)
}
