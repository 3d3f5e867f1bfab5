//! The `[authority]` section: how long keys and SVIDs live, and where the key-encryption key is.

use crate::kek::{KekPlace, Pkcs11Kek, TransitKek};
use proto_types::{format_duration, time::duration};
use serde::{Deserialize, Serialize};
use server_core::{authority::Lifetimes, issue::Ttls};
use std::{path::PathBuf, time::Duration};

/// A key shorter-lived than this would rotate faster than anybody could follow.
const MIN_KEY_TTL: Duration = Duration::from_secs(10);
const MAX_KEY_TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// `[authority]`. Durations are strings such as `24h`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorityConfig {
    #[serde(with = "duration")]
    pub ca_ttl: Duration,
    #[serde(with = "duration")]
    pub jwt_key_ttl: Duration,
    #[serde(with = "duration")]
    pub refresh_hint: Duration,
    #[serde(with = "duration")]
    pub x509_svid_ttl: Duration,
    #[serde(with = "duration")]
    pub jwt_svid_ttl: Duration,
    /// 32 bytes, mode 0600, never in the data directory or a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek_file: Option<PathBuf>,
    /// A key in a PKCS#11 token, in place of `kek_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek_pkcs11: Option<Pkcs11Kek>,
    /// A key in the transit engine of OpenBao or Vault, in place of `kek_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek_transit: Option<TransitKek>,
}

impl Default for AuthorityConfig {
    fn default() -> Self {
        let (keys, svids) = (Lifetimes::default(), Ttls::default());
        Self {
            ca_ttl: keys.ca_ttl,
            jwt_key_ttl: keys.jwt_key_ttl,
            refresh_hint: keys.refresh_hint,
            x509_svid_ttl: svids.x509_svid_ttl,
            jwt_svid_ttl: svids.jwt_svid_ttl,
            kek_file: None,
            kek_pkcs11: None,
            kek_transit: None,
        }
    }
}

/// What is wrong with the section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    #[error("authority.{field} = \"{}\": write a duration from 10s to 3650d", format_duration(*.got))]
    KeyTtl { field: &'static str, got: Duration },
    #[error("authority.{field} = \"{}\" is longer than authority.{key} = \"{}\": no SVID outlives the key that signed it",
        format_duration(*.got), format_duration(*.limit))]
    SvidTtl { field: &'static str, got: Duration, key: &'static str, limit: Duration },
    #[error("authority.{field} = \"0s\": write a duration above zero")]
    Zero { field: &'static str },
    #[error("authority.{field} = \"{}\" is not an absolute path", .path.display())]
    Relative { field: &'static str, path: PathBuf },
    #[error(
        "no key-encryption key: set kek_file, a file outside data_dir, or add [authority.kek_pkcs11] or [authority.kek_transit]"
    )]
    NoKek,
    #[error("kek_file, kek_pkcs11 and kek_transit are three places for one key: keep one of them")]
    ManyKeks,
    #[error("authority.kek_transit: {0}")]
    Transit(String),
    #[error("authority.kek_pkcs11.{0} is empty")]
    Empty(&'static str),
}

impl AuthorityConfig {
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes { ca_ttl: self.ca_ttl, jwt_key_ttl: self.jwt_key_ttl, refresh_hint: self.refresh_hint }
    }
    pub fn ttls(&self) -> Ttls {
        Ttls { x509_svid_ttl: self.x509_svid_ttl, jwt_svid_ttl: self.jwt_svid_ttl }
    }

    /// All problems at once.
    pub fn check(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        for (field, got) in [("ca_ttl", self.ca_ttl), ("jwt_key_ttl", self.jwt_key_ttl)] {
            if !(MIN_KEY_TTL..=MAX_KEY_TTL).contains(&got) {
                problems.push(ConfigProblem::KeyTtl { field, got });
            }
        }
        let zero = |(field, d): (&'static str, Duration)| d.is_zero().then_some(ConfigProblem::Zero { field });
        let svids = [("x509_svid_ttl", self.x509_svid_ttl), ("jwt_svid_ttl", self.jwt_svid_ttl)];
        problems.extend(svids.into_iter().chain([("refresh_hint", self.refresh_hint)]).filter_map(zero));
        let keys = [("ca_ttl", self.ca_ttl), ("jwt_key_ttl", self.jwt_key_ttl)];
        for ((field, got), (key, limit)) in svids.into_iter().zip(keys) {
            if got > limit {
                problems.push(ConfigProblem::SvidTtl { field, got, key, limit });
            }
        }
        let (token, service) = (self.kek_pkcs11.as_ref(), self.kek_transit.as_ref());
        let paths = [
            ("kek_file", self.kek_file.as_ref()),
            ("kek_pkcs11.module", token.map(|t| &t.module)),
            ("kek_pkcs11.pin_file", token.map(|t| &t.pin_file)),
            ("kek_transit.token_file", service.map(|s| &s.token_file)),
            ("kek_transit.ca_file", service.and_then(|s| s.ca_file.as_ref())),
        ];
        for (field, path) in paths {
            let relative = path.filter(|p| !p.is_absolute());
            problems.extend(relative.map(|path| ConfigProblem::Relative { field, path: path.clone() }));
        }
        for (field, text) in [("token", token.map(|t| &t.token)), ("key", token.map(|t| &t.key))] {
            problems.extend(text.filter(|t| t.is_empty()).map(|_| ConfigProblem::Empty(field)));
        }
        problems.extend(service.and_then(|s| s.check().err()).map(ConfigProblem::Transit));
        problems
    }

    /// Where the key-encryption key is: one place of the three.
    pub fn kek(&self) -> Result<KekPlace, ConfigProblem> {
        match (&self.kek_file, &self.kek_pkcs11, &self.kek_transit) {
            (Some(path), None, None) => Ok(KekPlace::File(path.clone())),
            (None, Some(token), None) => Ok(KekPlace::Pkcs11(token.clone())),
            (None, None, Some(service)) => Ok(KekPlace::Transit(service.clone())),
            (None, None, None) => Err(ConfigProblem::NoKek),
            _ => Err(ConfigProblem::ManyKeks),
        }
    }
}
