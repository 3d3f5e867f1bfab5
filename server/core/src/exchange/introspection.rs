//! Who may ask about a token or end it, and what is said of one (RFC 7662 section 2.2).
//!
//! Decides over verified claims and proven callers. Whether the token lives is the service's: it knows tasks and what
//! was revoked. Who may not ask hears what is said of a token that does not exist: that it is not active.

use proto_types::{SpiffeId, Task, TaskId};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Who asks about a token, or ends one, as a certificate, an assertion or a socket proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// By name.
    Operator(String),
    /// A task by an SVID of its own.
    Task { id: TaskId, workload: SpiffeId },
    /// A workload outside of any task.
    Workload(SpiffeId),
}

/// What a verified token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `at+jwt`, which only this server accepts.
    TaskToken,
    /// Verified by whoever has the bundle.
    JwtSvid,
}

/// A token of this server that lives: verified, not expired, not revoked, its task not over.
#[derive(Clone, Copy, Debug)]
pub struct LiveToken<'a> {
    pub kind: TokenKind,
    pub claims: &'a Map<String, Value>,
    /// The task it belongs to; `None` for a workload's own JWT-SVID.
    pub task: Option<&'a Task>,
}

impl LiveToken<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// Whether it was given to the asker itself. A workload does not own what its tasks have, nor a task what its
    /// workload has.
    pub fn is_owned_by(&self, asker: &Asker) -> bool {
        match (asker, self.task) {
            (Asker::Operator(_), _) => true,
            (Asker::Task { id, .. }, Some(task)) => task.id == *id,
            (Asker::Workload(id), None) => self.text("sub") == Some(id.to_string().as_str()),
            (Asker::Task { .. }, None) | (Asker::Workload(_), Some(_)) => false,
        }
    }

    /// Whether it was meant for the asker: its `aud` names the asker's workload by SPIFFE ID.
    fn is_for(&self, asker: &Asker) -> bool {
        let id = match asker {
            Asker::Operator(_) => return false,
            Asker::Task { workload, .. } => workload.to_string(),
            Asker::Workload(id) => id.to_string(),
        };
        match self.claims.get("aud") {
            Some(Value::String(one)) => *one == id,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(id.as_str())),
            _ => false,
        }
    }

    /// What this asker hears of it.
    pub fn told_to(&self, asker: &Asker) -> Introspection {
        if self.is_owned_by(asker) || self.is_for(asker) {
            Introspection::Active(self.members())
        } else {
            Introspection::Inactive
        }
    }

    fn members(&self) -> Map<String, Value> {
        let told = TOLD.into_iter().filter_map(|name| Some((name.to_string(), self.claims.get(name)?.clone())));
        let mut members: Map<String, Value> = told.collect();
        members.insert("active".into(), true.into());
        let token_type = match self.kind {
            TokenKind::TaskToken => "Bearer",
            // RFC 8693 section 2.2.1: no access token.
            TokenKind::JwtSvid => "N_A",
        };
        members.insert("token_type".into(), token_type.into());
        if let Some(task) = self.task {
            // A task's JWT-SVID says no more than its name; the server knows the rest.
            members.entry("client_id").or_insert_with(|| task.workload.to_string().into());
            members.entry("txn").or_insert_with(|| task.root.to_string().into());
            members.entry("task").or_insert_with(|| {
                json!({
                    "id": task.id, "parent": task.parent, "root": task.root, "depth": task.depth,
                    "exp": task.ends_at.as_secs(),
                })
            });
        }
        members
    }
}

/// The claims that are told. What a later token says besides is not, until it stands here.
const TOLD: [&str; 15] = [
    "iss",
    "sub",
    "aud",
    "client_id",
    "scope",
    "iat",
    "nbf",
    "exp",
    "jti",
    "act",
    "cnf",
    "task",
    "txn",
    "authorization_details",
    "approval",
];

/// The answer. Send it with `Cache-Control: no-store`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Introspection {
    Active(Map<String, Value>),
    /// Nothing but that: not whether it exists, expired, was revoked, or is somebody else's.
    #[serde(serialize_with = "inactive")]
    Inactive,
}

impl Introspection {
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active(_))
    }
}

fn inactive<S: serde::Serializer>(s: S) -> Result<S::Ok, S::Error> {
    json!({ "active": false }).serialize(s)
}
