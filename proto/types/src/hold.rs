//! Holds: a stop on a workload, a user, a target, a node or everything, until it is released.
//!
//! Decides what a hold is and under which keys its scope and a piece of work meet, so that one rule matches in memory
//! and in the store. What a hold ends and what it refuses is decided elsewhere.

use crate::{
    id::{HoldId, IdError, SpiffeId, excerpt, parse_spiffe_id},
    target::is_name,
    task::Task,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest reason, bytes after trimming.
pub const MAX_REASON: usize = 1024;
/// Longest subject of a user, bytes.
pub const MAX_USER: usize = 1024;

/// Why a hold was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    #[error("`{0}` names no workload: write its SPIFFE ID, or an ID that ends in `/*` for every workload below it")]
    Workload(String),
    #[error("`{0}` is not a target's name")]
    Target(String),
    #[error("a user is 1 to {MAX_USER} bytes without control characters, as tasks name it")]
    User,
    #[error(
        "a hold needs a reason of 1 to {MAX_REASON} bytes without control characters: say why, for whoever releases it"
    )]
    Reason,
    #[error(transparent)]
    Node(#[from] IdError),
}

/// Workloads by their SPIFFE ID: one, or every one below a path (`spiffe://example.org/agents/*`, which does not match
/// `spiffe://example.org/agents` itself). Always well-formed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadPattern(String);

impl WorkloadPattern {
    pub fn parse(text: &str) -> Result<Self, HoldError> {
        let id = text.strip_suffix("/*").unwrap_or(text);
        let known = parse_spiffe_id(id).map_err(|_| HoldError::Workload(excerpt(text)))?;
        // A bare trust domain is no workload; everything below it is a pattern.
        if known.path().is_empty() && id == text {
            return Err(HoldError::Workload(excerpt(text)));
        }
        Ok(Self(text.into()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// What every matching ID begins with, when the pattern is not one ID.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }
    pub fn admits(&self, id: &SpiffeId) -> bool {
        let id = id.to_string();
        match self.prefix() {
            Some(prefix) => id.len() > prefix.len() && id.starts_with(prefix),
            None => id == self.0,
        }
    }
}

/// What a hold stops: one of five, never a combination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Workload(WorkloadPattern),
    User(String),
    Target(String),
    Node(SpiffeId),
    All,
}

impl Scope {
    pub fn user(text: &str) -> Result<Self, HoldError> {
        let fits = (1..=MAX_USER).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(Self::User(text.into())) } else { Err(HoldError::User) }
    }
    pub fn target(text: &str) -> Result<Self, HoldError> {
        if is_name(text) { Ok(Self::Target(text.into())) } else { Err(HoldError::Target(excerpt(text))) }
    }
    /// `workload`, `user`, `target`, `node` or `all`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Workload(_) => "workload",
            Self::User(_) => "user",
            Self::Target(_) => "target",
            Self::Node(_) => "node",
            Self::All => "all",
        }
    }
    /// What of that kind; empty for `all`.
    pub fn value(&self) -> String {
        match self {
            Self::Workload(pattern) => pattern.as_str().into(),
            Self::User(text) | Self::Target(text) => text.clone(),
            Self::Node(id) => id.to_string(),
            Self::All => String::new(),
        }
    }
    pub fn parse(kind: &str, value: &str) -> Result<Self, HoldError> {
        match kind {
            "workload" => WorkloadPattern::parse(value).map(Self::Workload),
            "user" => Self::user(value),
            "target" => Self::target(value),
            "node" => Ok(Self::Node(parse_spiffe_id(value)?)),
            "all" if value.is_empty() => Ok(Self::All),
            other => Err(HoldError::Workload(excerpt(other))),
        }
    }
    /// The one key of this scope; a [`Stopped`] that it stops has it among its own.
    pub fn key(&self) -> String {
        format!("{}:{}", self.kind(), self.value())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            other => write!(f, "{} {}", other.kind(), other.value()),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.key())
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let key = String::deserialize(d)?;
        let (kind, value) = key.split_once(':').unwrap_or((&key, ""));
        Self::parse(kind, value).map_err(serde::de::Error::custom)
    }
}

/// One hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub id: HoldId,
    pub scope: Scope,
    /// Why, in the operator's words. Never shown to whom it stops.
    pub reason: String,
    /// Who made it.
    #[serde(default)]
    pub operator: Option<String>,
    pub created_at: Timestamp,
}

/// A reason, trimmed and bounded.
pub fn reason(text: &str) -> Result<String, HoldError> {
    let text = text.trim();
    let fits = (1..=MAX_REASON).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(text.into()) } else { Err(HoldError::Reason) }
}

/// A piece of work that a hold may stop: for whom, on which node, with which targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped<'a> {
    pub workload: Option<&'a SpiffeId>,
    pub user: Option<&'a str>,
    pub node: Option<&'a SpiffeId>,
    pub targets: Vec<&'a str>,
}

impl<'a> Stopped<'a> {
    pub fn workload(id: &'a SpiffeId) -> Self {
        Self { workload: Some(id), ..Self::default() }
    }
    /// A task as a whole: a hold on any target that it has a grant in stops it.
    pub fn task(task: &'a Task) -> Self {
        Self {
            workload: Some(&task.workload),
            user: task.user.as_deref(),
            node: Some(&task.node),
            targets: task.grants.iter().map(|g| g.role.target()).collect(),
        }
    }
    pub fn on(self, node: &'a SpiffeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// The keys of every scope that would stop it.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = vec![Scope::All.key()];
        if let Some(id) = self.workload {
            let id = id.to_string();
            keys.push(format!("workload:{id}"));
            // `spiffe://td/a/b` lies below `spiffe://td/a/*` and `spiffe://td/*`.
            let path = "spiffe://".len();
            let ends = id.match_indices('/').filter(|(at, _)| *at >= path && at + 1 < id.len());
            keys.extend(ends.map(|(at, _)| format!("workload:{}/*", &id[..at])));
        }
        keys.extend(self.user.map(|user| format!("user:{user}")));
        keys.extend(self.node.map(|node| format!("node:{node}")));
        keys.extend(self.targets.iter().map(|target| format!("target:{target}")));
        keys.sort();
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str) -> SpiffeId {
        parse_spiffe_id(&format!("spiffe://example.org{path}")).unwrap()
    }

    fn stops(scope: &str, work: &Stopped<'_>) -> bool {
        let (kind, value) = scope.split_once(':').unwrap_or((scope, ""));
        work.keys().contains(&Scope::parse(kind, value).unwrap().key())
    }

    #[test]
    fn a_scope_stops_what_it_names_and_not_its_neighbours() {
        let (planner, node) = (id("/agents/planner"), id("/spire/agent/join_token/1"));
        let work =
            Stopped { workload: Some(&planner), user: Some("kim"), node: Some(&node), targets: vec!["orders-db"] };
        for yes in [
            "all",
            "workload:spiffe://example.org/agents/planner",
            "workload:spiffe://example.org/agents/*",
            "workload:spiffe://example.org/*",
            "user:kim",
            "target:orders-db",
            "node:spiffe://example.org/spire/agent/join_token/1",
        ] {
            assert!(stops(yes, &work), "{yes}");
        }
        for no in [
            "workload:spiffe://example.org/agents",
            "workload:spiffe://example.org/agents/planner/*",
            "workload:spiffe://example.org/agents/plan",
            "workload:spiffe://example.org/agent/*",
            "workload:spiffe://example.com/*",
            "user:ki",
            "target:orders",
            "node:spiffe://example.org/spire/agent/join_token/12",
        ] {
            assert!(!stops(no, &work), "{no}");
        }
    }

    #[test]
    fn a_pattern_admits_what_its_key_would_stop() {
        for (pattern, path, admitted) in [
            ("spiffe://example.org/a/*", "/a/b", true),
            ("spiffe://example.org/a/*", "/a/b/c", true),
            ("spiffe://example.org/a/*", "/a", false),
            ("spiffe://example.org/a/*", "/ab", false),
            ("spiffe://example.org/a", "/a", true),
            ("spiffe://example.org/a", "/a/b", false),
        ] {
            let (id, parsed) = (id(path), WorkloadPattern::parse(pattern).unwrap());
            assert_eq!(parsed.admits(&id), admitted, "{pattern} {path}");
            assert_eq!(stops(&format!("workload:{pattern}"), &Stopped::workload(&id)), admitted, "{pattern} {path}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_and_its_neighbour_is_not() {
        for bad in
            ["spiffe://example.org", "*", "/*", "example.org/a", "spiffe://example.org/a*", "spiffe://EXAMPLE.org/a"]
        {
            assert!(WorkloadPattern::parse(bad).is_err(), "{bad}");
        }
        for good in ["spiffe://example.org/*", "spiffe://example.org/a", "spiffe://example.org/a/*"] {
            WorkloadPattern::parse(good).unwrap();
        }
        assert!(Scope::target("Orders").is_err() && Scope::target("orders").is_ok());
        assert!(Scope::user("").is_err() && Scope::user("kim\n").is_err() && Scope::user("kim").is_ok());
        assert!(reason("  ").is_err() && reason("a\u{1b}[31mb").is_err());
        assert_eq!(reason(" lost laptop ").unwrap(), "lost laptop");
    }

    #[test]
    fn a_scope_reads_back_what_it_writes() {
        for scope in
            [Scope::All, Scope::User("kim:x".into()), Scope::Node(id("/spire/agent/a")), Scope::Target("db".into())]
        {
            let text = serde_json::to_string(&scope).unwrap();
            assert_eq!(serde_json::from_str::<Scope>(&text).unwrap(), scope, "{text}");
        }
    }
}
