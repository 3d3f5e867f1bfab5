//! One record of the journal: what happened, in the form the command line prints.
//!
//! Holds the noun. How it is canonicalised, hashed and proven is `server-core::journal`.

use crate::{id::TaskId, target::RoleName, time::Timestamp};
use serde::{Deserialize, Serialize};

/// A record's place in the journal, from 0, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

/// What policy answered, with the policies that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionNote {
    /// `permit`, `deny` or `needs_approval`.
    pub outcome: String,
    pub policies: Vec<String>,
}

/// Which credential a record is about: a serial, a `jti` or a lease id. Never the credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialNote {
    pub id: String,
    pub kind: String,
}

/// One record. `user` and `intent` are people's words: the leaf holds their salted hashes, the values stand beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub time: Timestamp,
    /// `noun.verb`, the verb in the past tense.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionNote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialNote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who did it, when a person did: the operator's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// `ok`, or the stable code of what was refused or failed.
    pub outcome: String,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl Record {
    pub fn new(time: Timestamp, kind: &'static str) -> Self {
        Self {
            time,
            kind: kind.into(),
            workload: None,
            user: None,
            task_id: None,
            target: None,
            role: None,
            intent: None,
            tool: None,
            decision: None,
            credential: None,
            node: None,
            operator: None,
            outcome: "ok".into(),
            detail: serde_json::Value::Null,
        }
    }
    pub fn workload(mut self, id: impl ToString) -> Self {
        self.workload = Some(id.to_string());
        self
    }
    pub fn task(mut self, id: TaskId) -> Self {
        self.task_id = Some(id);
        self
    }
    pub fn role(mut self, role: &RoleName) -> Self {
        self.target = Some(role.target().into());
        self.role = Some(role.role().into());
        self
    }
    pub fn target(mut self, name: impl Into<String>) -> Self {
        self.target = Some(name.into());
        self
    }
    pub fn intent(mut self, text: impl Into<String>) -> Self {
        self.intent = Some(text.into());
        self
    }
    pub fn user(mut self, user: Option<String>) -> Self {
        self.user = user;
        self
    }
    pub fn decision(mut self, outcome: &str, policies: Vec<String>) -> Self {
        self.decision = Some(DecisionNote { outcome: outcome.into(), policies });
        self
    }
    pub fn credential(mut self, kind: &str, id: impl ToString) -> Self {
        self.credential = Some(CredentialNote { id: id.to_string(), kind: kind.into() });
        self
    }
    pub fn node(mut self, id: impl ToString) -> Self {
        self.node = Some(id.to_string());
        self
    }
    pub fn operator(mut self, name: Option<String>) -> Self {
        self.operator = name;
        self
    }
    pub fn outcome(mut self, code: impl Into<String>) -> Self {
        self.outcome = code.into();
        self
    }
    pub fn detail(mut self, value: serde_json::Value) -> Self {
        self.detail = value;
        self
    }
}
