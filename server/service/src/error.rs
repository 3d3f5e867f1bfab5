//! What can go wrong in the service, in the domain's words. Transports map it, exhaustively, in one place each.

use proto_types::{EntryId, HoldId, Position, id::IdError};
use server_core::{
    issue::TemplateError,
    ports::{CommitError, Guard, PolicyProblem, ReadError, SignError, TargetProblem},
};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ServiceError {
    /// The caller's request is malformed or out of bounds.
    #[error("{0}")]
    Invalid(String),
    #[error("{what} `{id}` does not exist")]
    NotFound { what: &'static str, id: String },
    #[error("an entry with the same SPIFFE ID, parent and selectors exists: `{0}`")]
    EntryExists(EntryId),
    #[error("{what} `{id}` exists already")]
    Exists { what: &'static str, id: String },
    /// Policy or entitlement said no.
    #[error("{why}")]
    Denied { why: String, policies: Vec<String> },
    /// An operator stopped it. The reason is theirs to tell.
    #[error("{what} is on hold; an operator releases it with `errand hold release {}`",
        hold.map_or_else(|| "ID".into(), |id| id.to_string()))]
    Held { what: String, hold: Option<HoldId> },
    /// The caller is not who it must be.
    #[error("{0}")]
    Unauthenticated(String),
    #[error("this agent is banned; an operator lifts it with `errand node evict`")]
    AgentBanned,
    #[error("this agent is not attested here (any more); it must attest again")]
    AgentUnknown,
    #[error("this agent's SVID is not its newest; it must attest again")]
    AgentNotActive,
    /// The state forbids it.
    #[error("{0}")]
    Conflict(String),
    #[error("the task is over; start a new one")]
    TaskOver,
    /// What was asked for is older than the journal is kept; the position is that of the oldest record.
    #[error("{}", ReadError::Pruned(*.0))]
    Pruned(Position),
    /// A target said no, and nothing was made.
    #[error("the target `{target}` refused: {why}")]
    TargetRefused { target: String, why: String },
    #[error("the target `{target}` cannot be reached or did not answer clearly: {why}")]
    TargetUnavailable { target: String, why: String },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Target(Vec<TargetProblem>),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Policy(Vec<PolicyProblem>),
    /// Fail closed: the store, the clock or a key is in doubt.
    #[error("nothing is issued now: {0}")]
    Unavailable(String),
}

impl ServiceError {
    pub fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: proto_types::id::excerpt(&id.to_string()) }
    }
    /// A stable word for journals, metrics and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NotFound { .. } => "not_found",
            Self::EntryExists(_) | Self::Exists { .. } => "exists",
            Self::Denied { .. } => "denied",
            Self::Held { .. } => "held",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::AgentBanned => "agent_banned",
            Self::AgentUnknown => "agent_unknown",
            Self::AgentNotActive => "agent_not_active",
            Self::Conflict(_) => "conflict",
            Self::TaskOver => "task_over",
            Self::Pruned(_) => "pruned",
            Self::TargetRefused { .. } => "target_refused",
            Self::TargetUnavailable { .. } => "target_unavailable",
            Self::Target(_) => "target_config",
            Self::Policy(_) => "policy_config",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<CommitError> for ServiceError {
    fn from(e: CommitError) -> Self {
        match e {
            CommitError::Lost(guard) => match guard {
                Guard::TaskLive(..) => Self::TaskOver,
                Guard::JoinToken(_) => Self::Unauthenticated("the join token is unknown, used or expired".into()),
                Guard::NodeSerial(..) => Self::AgentNotActive,
                Guard::TokenUnrevoked(_) => Self::Conflict("the token was revoked; ask for a new one".into()),
                Guard::Unclaimed(_) => Self::Conflict("this was used before; it is good once".into()),
                Guard::TargetAt(..) => Self::Conflict("the target is being changed; try again in a moment".into()),
                Guard::NoHold(_) => Self::Held { what: "what was asked for".into(), hold: None },
                Guard::Held(id) => Self::not_found("hold", id),
                Guard::Private(_)
                | Guard::NodeAs(..)
                | Guard::EntryAt(..)
                | Guard::EntryUnique(..)
                | Guard::LeaseIn(..)
                | Guard::Fence(..) => {
                    Self::Conflict("somebody else changed it in the meantime; look at it again and retry".into())
                }
            },
            CommitError::Full | CommitError::Unavailable(_) | CommitError::Unknown => Self::Unavailable(e.to_string()),
        }
    }
}

impl From<ReadError> for ServiceError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Pruned(start) => Self::Pruned(start),
            ReadError::Unavailable(_) | ReadError::Inconsistent(_) => Self::Unavailable(e.to_string()),
        }
    }
}

impl From<SignError> for ServiceError {
    fn from(e: SignError) -> Self {
        Self::Unavailable(e.to_string())
    }
}

impl From<TemplateError> for ServiceError {
    fn from(e: TemplateError) -> Self {
        match e {
            TemplateError::NotLive => Self::TaskOver,
            TemplateError::Over(_) => Self::Unavailable(e.to_string()),
            TemplateError::TargetAudience(_) => Self::Denied { why: e.to_string(), policies: vec![] },
            TemplateError::TaskPath(_)
            | TemplateError::NoPath(_)
            | TemplateError::DnsName(_)
            | TemplateError::DnsNames { .. }
            | TemplateError::Audience => Self::Invalid(e.to_string()),
        }
    }
}

impl From<IdError> for ServiceError {
    fn from(e: IdError) -> Self {
        Self::Invalid(e.to_string())
    }
}
