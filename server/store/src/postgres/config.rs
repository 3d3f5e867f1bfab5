//! Where the database is and how it is reached: `[store] url` and what stands beside it.
//!
//! Decides which connections are refused before they are tried: no password in the URL, and no clear text over a network.

use proto_types::{
    Secret,
    file::{FileError, read_text},
    id::excerpt,
};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{net::IpAddr, path::PathBuf};
use url::Url;

/// Largest password or PEM file, bytes.
const MAX_FILE: usize = 256 * 1024;
/// Servers that one URL may name.
const MAX_HOSTS: usize = 16;

/// A PostgreSQL database that holds a store, on one of several hosts: whichever is not a standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    hosts: Vec<Host>,
    user: String,
    database: String,
    tls: bool,
    files: Files,
}

/// What stands beside the URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub password: Option<PathBuf>,
    /// Authorities of the database; those of the system otherwise.
    pub ca: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// A name, an address, or the folder of a Unix socket.
    name: String,
    port: u16,
}

impl PostgresConfig {
    /// `postgres://USER@HOST[:PORT][,HOST[:PORT]…]/DATABASE[?sslmode=…]`. The error says what is wrong, and repeats no password.
    pub fn parse(url: &str, files: Files) -> Result<Self, String> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or("begins with postgres://")?;
        let (authority, path) = rest.split_once('/').ok_or("names a database: postgres://USER@HOST/DATABASE")?;
        let (user, hosts) = authority.rsplit_once('@').ok_or("names a user: postgres://USER@HOST/DATABASE")?;
        // One host at a time is a URL as others read it. With a socket there need be none.
        let read = |host: &str| {
            let host = if host.is_empty() { "localhost" } else { host };
            Url::parse(&format!("postgres://{user}@{host}/{path}")).map_err(|e| e.to_string())
        };
        let first = read(hosts.split(',').next().unwrap_or_default())?;
        if first.password().is_some() {
            return Err("holds a password; name a `password_file` instead".into());
        }
        let (mut sslmode, mut socket) = (None, None);
        for (name, value) in first.query_pairs() {
            match &*name {
                "sslmode" => sslmode = Some(value.into_owned()),
                "host" if value.starts_with('/') => socket = Some(value.into_owned()),
                other => return Err(format!("knows sslmode and host=/FOLDER only, not `{}`", excerpt(other))),
            }
        }
        let mut named = Vec::new();
        for host in hosts.split(',') {
            let url = read(host)?;
            let bare = |h: &str| h.trim_start_matches('[').trim_end_matches(']').to_string();
            let name = match (&socket, url.host_str().filter(|_| !host.is_empty())) {
                (Some(folder), _) => folder.clone(),
                (None, Some(host)) => bare(host),
                (None, None) => return Err("names a host: postgres://USER@HOST/DATABASE".into()),
            };
            named.push(Host { name, port: url.port().unwrap_or(5432) });
        }
        if named.len() > MAX_HOSTS {
            return Err(format!("names at most {MAX_HOSTS} hosts"));
        }
        let near = named.iter().all(Host::is_near);
        let tls = match sslmode.as_deref() {
            Some("verify-full") => true,
            Some("disable") if near => false,
            Some("disable") => return Err("would cross a network in clear text; use sslmode=verify-full".into()),
            Some(_) => return Err("knows sslmode=verify-full, and disable on this machine".into()),
            None => !near,
        };
        if files.client_cert.is_some() != files.client_key.is_some() {
            return Err("needs `client_cert_file` and `client_key_file` together".into());
        }
        let decoded = |text: &str| percent_decoded(text).ok_or("is percent-encoded UTF-8");
        let database = decoded(first.path().trim_start_matches('/'))?;
        let user = decoded(first.username())?;
        if database.is_empty() || user.is_empty() {
            return Err("names a user and a database: postgres://USER@HOST/DATABASE".into());
        }
        Ok(Self { hosts: named, user, database, tls, files })
    }

    /// One place after the other, for errors and logs.
    pub(crate) fn shown(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|h| format!("{}:{}", h.name, h.port)).collect();
        format!("postgres://{}/{}", hosts.join(","), self.database)
    }

    /// How each host is connected to. Files are read each time: passwords and certificates are renewed while a server runs.
    pub(super) fn options(&self) -> Result<Vec<PgConnectOptions>, String> {
        let text = |what: &str, path: &Option<PathBuf>| {
            let read = path.as_ref().map(|path| read_text(path, MAX_FILE).map(Secret::new));
            read.transpose().map_err(|e: FileError| format!("`{what}` {e}"))
        };
        let password = text("password_file", &self.files.password)?;
        let ca = text("ca_file", &self.files.ca)?;
        let (cert, key) =
            (text("client_cert_file", &self.files.client_cert)?, text("client_key_file", &self.files.client_key)?);
        let of = |host: &Host| {
            let mut options = PgConnectOptions::new_without_pgpass()
                .host(&host.name)
                .port(host.port)
                .username(&self.user)
                .database(&self.database)
                // Set in any case: the driver would otherwise take one from the server's own environment.
                .password(password.as_ref().map_or("", |p| p.expose().trim_end_matches(['\n', '\r'])))
                .application_name("errand server")
                .ssl_mode(if self.tls { PgSslMode::VerifyFull } else { PgSslMode::Disable })
                .statement_cache_capacity(256)
                .disable_statement_logging();
            if let Some(ca) = &ca {
                options = options.ssl_root_cert_from_pem(ca.expose().as_bytes().to_vec());
            }
            if let (Some(cert), Some(key)) = (&cert, &key) {
                options = options.ssl_client_cert_from_pem(cert.expose()).ssl_client_key_from_pem(key.expose());
            }
            options
        };
        Ok(self.hosts.iter().map(of).collect())
    }
}

impl Host {
    fn is_near(&self) -> bool {
        let address = self.name.parse::<IpAddr>();
        self.name.starts_with('/') || self.name == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'%' => (u8::from_str_radix(std::str::from_utf8(after.get(..2)?).ok()?, 16).ok()?, after.get(2..)?),
            other => (*other, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PostgresConfig, String> {
        PostgresConfig::parse(url, Files::default())
    }

    #[test]
    fn a_url_names_user_hosts_and_database_and_crosses_no_network_in_clear_text() {
        for (bad, good) in [
            ("mysql://errand@db.example.org/errand", "postgresql://errand@db.example.org/errand"),
            ("postgres://db.example.org/errand", "postgres://errand@db.example.org/errand"),
            ("postgres://errand@db.example.org", "postgres://errand@db.example.org/errand"),
            ("postgres://errand@db.example.org/", "postgres://errand@db.example.org/e"),
            ("postgres://errand:s3cret@db.example.org/errand", "postgres://errand%3As3cret@db.example.org/errand"),
            ("postgres://errand@/errand", "postgres://errand@/errand?host=/run/postgresql"),
            ("postgres://errand@a,,b/errand", "postgres://errand@a,b:5433/errand"),
            ("postgres://errand@a:99999/errand", "postgres://errand@a:65535/errand"),
            (
                "postgres://errand@db.example.org/errand?sslmode=disable",
                "postgres://errand@127.0.0.1/errand?sslmode=disable",
            ),
            (
                "postgres://errand@127.0.0.1,db/errand?sslmode=disable",
                "postgres://errand@127.0.0.1,[::1]/errand?sslmode=disable",
            ),
            ("postgres://errand@db/errand?sslmode=prefer", "postgres://errand@db/errand?sslmode=verify-full"),
            ("postgres://errand@db/errand?options=-c", "postgres://errand@db/errand"),
            ("postgres://err%ZZnd@db/errand", "postgres://err%C3%A4nd@db/errand"),
        ] {
            let why = parse(bad).expect_err(bad);
            assert!(!why.contains("s3cret"), "{why}");
            parse(good).unwrap_or_else(|why| panic!("{good}: {why}"));
        }
        let several = parse("postgres://kim%40x@a,b:5433,[2001:db8::1]:5434/my%20db").unwrap();
        assert_eq!(several.shown(), "postgres://a:5432,b:5433,2001:db8::1:5434/my db");
        assert_eq!((several.user.as_str(), several.tls), ("kim@x", true));
    }

    #[test]
    fn what_stands_in_files_is_read_when_it_is_used() {
        let home = tempfile::tempdir().unwrap();
        let password = home.path().join("password");
        let files = Files { password: Some(password.clone()), ..Files::default() };
        let config = PostgresConfig::parse("postgres://errand@127.0.0.1/errand", files).unwrap();
        let why = config.options().unwrap_err();
        assert!(why.contains("password_file"), "{why}");
        std::fs::write(&password, "s3cret\n").unwrap();
        assert_eq!(config.options().unwrap().len(), 1);
        let half = Files { client_cert: Some(password), ..Files::default() };
        PostgresConfig::parse("postgres://errand@127.0.0.1/errand", half).unwrap_err();
    }
}
