//! Nouns as rows: how states are spelled, how bodies are read.

use proto_types::{KeyUse, LeaseState, TaskState};
use serde::{Serialize, de::DeserializeOwned};
use server_core::ports::{AuthorityState, ReadError};

/// A count or position as databases keep it; positions never come near the limit.
pub fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub fn json(noun: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(noun).map_err(|e| e.to_string())
}

/// Reads a noun back; the error names table and key, never the content.
pub fn noun<T: DeserializeOwned>(table: &str, key: &str, body: &str) -> Result<T, ReadError> {
    serde_json::from_str(body).map_err(|_| inconsistent(table, key))
}

pub fn inconsistent(table: &str, key: impl std::fmt::Display) -> ReadError {
    ReadError::Inconsistent(format!("{table} `{key}` cannot be read"))
}

pub const fn task_state(state: TaskState) -> &'static str {
    match state {
        TaskState::PendingApproval => "pending_approval",
        TaskState::Active => "active",
        TaskState::Suspended => "suspended",
        TaskState::Ended => "ended",
        TaskState::Denied => "denied",
    }
}

pub const fn lease_state(state: LeaseState) -> &'static str {
    state.as_str()
}

pub const fn authority_state(state: AuthorityState) -> &'static str {
    match state {
        AuthorityState::Prepared => "prepared",
        AuthorityState::Active => "active",
        AuthorityState::Old => "old",
    }
}

pub fn read_authority_state(text: &str) -> Option<AuthorityState> {
    [AuthorityState::Prepared, AuthorityState::Active, AuthorityState::Old]
        .into_iter()
        .find(|s| authority_state(*s) == text)
}

pub fn read_key_use(text: &str) -> Option<KeyUse> {
    KeyUse::ALL.into_iter().find(|u| u.as_str() == text)
}
