//! The `[authority]` section: how long keys and SVIDs live, and where the key-encryption key lies.

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
    #[error("authority.kek_file = \"{}\" is not an absolute path", .0.display())]
    RelativeKek(PathBuf),
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
        if let Some(path) = self.kek_file.as_ref().filter(|p| !p.is_absolute()) {
            problems.push(ConfigProblem::RelativeKek(path.clone()));
        }
        problems
    }
}
