//! Tasks and grants: one bounded piece of work by one workload. The unit of issue, audit and revocation.
//!
//! Holds the nouns; the lifecycle's transitions are in `server-core::task`.

use crate::{
    entry::Selector,
    id::{EntryId, SpiffeId, TaskId, spiffe_id},
    target::RoleName,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Raised by the commit that ends, suspends or narrows a task; a guard names the epoch it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    PendingApproval,
    Active,
    Suspended,
    Ended,
    Denied,
}

/// Why a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    Completed,
    Deadline,
    ProcessGone,
    HeartbeatLost,
    ParentEnded,
    Revoked,
    Held,
    EntryDeleted,
    NodeBanned,
    PolicyChanged,
    UserOffboarded,
}

impl EndReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Deadline => "deadline",
            Self::ProcessGone => "process_gone",
            Self::HeartbeatLost => "heartbeat_lost",
            Self::ParentEnded => "parent_ended",
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::EntryDeleted => "entry_deleted",
            Self::NodeBanned => "node_banned",
            Self::PolicyChanged => "policy_changed",
            Self::UserOffboarded => "user_offboarded",
        }
    }
}

/// The right of one task to obtain one role, with its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub role: RoleName,
    /// The longest a credential of this grant may live: what policy and the role allow.
    #[serde(with = "crate::time::duration")]
    pub max_ttl: Duration,
    /// Ids of the policies that permitted it.
    pub policies: Vec<String>,
}

/// The root process of a task, as its agent pinned it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks since boot (`/proc/PID/stat` field 22).
    pub start_time: u64,
    pub boot_id: String,
    pub uid: u32,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    #[serde(default)]
    pub parent: Option<TaskId>,
    /// The first ancestor; its own id for a root task. Never changes (`txn` of every token).
    pub root: TaskId,
    pub depth: u8,
    #[serde(with = "spiffe_id")]
    pub workload: SpiffeId,
    pub entry: EntryId,
    /// The agent that vouches for it.
    #[serde(with = "spiffe_id")]
    pub node: SpiffeId,
    #[serde(default)]
    pub user: Option<String>,
    pub intent: String,
    pub state: TaskState,
    pub epoch: Epoch,
    pub grants: Vec<Grant>,
    /// `true`: held by a key, not by a process.
    pub handle: bool,
    pub uid: u32,
    /// What the agent attested of the launcher, `cmd:*` among it.
    pub selectors: Vec<Selector>,
    pub started_at: Timestamp,
    pub ends_at: Timestamp,
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    pub end_reason: Option<EndReason>,
}

impl Task {
    pub fn is_live(&self) -> bool {
        self.state == TaskState::Active
    }
    /// `<workload>/task/<id>`, the identity of the task itself.
    pub fn spiffe_id(&self) -> String {
        format!("{}/task/{}", self.workload, self.id)
    }
    pub fn grant(&self, role: &RoleName) -> Option<&Grant> {
        self.grants.iter().find(|g| &g.role == role)
    }
}
