//! Where a PostgreSQL server is: the `url` of a target, taken apart and checked.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proto_types::id::excerpt;
use std::net::IpAddr;
use url::Url;

/// Everything but RFC 3986 unreserved characters.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Host, port, database and the server's own user there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, an IP address without brackets, or the directory of a Unix socket (it begins with `/`).
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("`url` is not a postgres:// URL: write postgres://USER@HOST/DATABASE")]
    NotPostgres,
    #[error("`url` holds a password: take it out, put it in a file and name that with password_file")]
    Password,
    #[error("`url` names no {0}: write postgres://USER@HOST/DATABASE")]
    Missing(&'static str),
    #[error("`url` has the parameter `{0}`; sslmode and ca_file are keys of the target, nothing else is read")]
    Parameter(String),
    #[error("`url` names a {what} that PostgreSQL cannot have: `{got}`")]
    Name { what: &'static str, got: String },
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::NotPostgres)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(AddressError::NotPostgres);
        }
        if url.password().is_some() {
            return Err(AddressError::Password);
        }
        if let Some((key, _)) = url.query_pairs().next() {
            return Err(AddressError::Parameter(excerpt(&key)));
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            host: part("host", host, 255)?,
            port: url.port().unwrap_or(5432),
            database: part("database", url.path().trim_start_matches('/'), 63)?,
            user: part("user", url.username(), 63)?,
        })
    }

    /// Nothing of it crosses a network.
    pub(super) fn is_local(&self) -> bool {
        self.host.starts_with('/')
            || self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// `host:port/database`, for messages.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, excerpt(&self.database))
    }

    /// A connection URL for `user`, without a password.
    pub(super) fn url_for(&self, user: &str, sslmode: Option<&str>) -> String {
        let encode = |text: &str| utf8_percent_encode(text, COMPONENT).to_string();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { encode(&self.host) };
        let mode = sslmode.map(|m| format!("?sslmode={m}")).unwrap_or_default();
        format!("postgresql://{}@{host}:{}/{}{mode}", encode(user), self.port, encode(&self.database))
    }
}

fn part(what: &'static str, raw: &str, max: usize) -> Result<String, AddressError> {
    let text =
        percent_decode_str(raw).decode_utf8().map_err(|_| AddressError::Name { what, got: excerpt(raw) })?.into_owned();
    if text.is_empty() {
        return Err(AddressError::Missing(what));
    }
    if text.len() > max || text.chars().any(char::is_control) {
        return Err(AddressError::Name { what, got: excerpt(&text) });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_a_password_or_without_a_part_is_refused_and_its_neighbours_are_read() {
        for bad in [
            "",
            "orders",
            "mysql://errand@db/orders",
            "postgres://errand:secret@db/orders",
            "postgres://db/orders",
            "postgres://errand@/orders",
            "postgres://errand@db",
            "postgres://errand@db/orders?options=-c",
            "postgres://errand@db/a%0Ab",
            "postgres://errand@db/a%00",
            "postgres://errand@db:99999/orders",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        for good in [
            "postgres://errand@db/orders",
            "postgresql://errand@db.internal:6432/orders",
            "postgres://errand@[::1]/orders",
            "postgres://errand@%2Fvar%2Frun%2Fpostgresql/or%22ders",
        ] {
            let address = Address::parse(good).unwrap();
            let again = address.url_for(&address.user, None);
            assert_eq!(Address::parse(&again).unwrap(), address, "{good}");
        }
    }
}
