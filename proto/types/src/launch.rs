//! The launch socket's messages: how `errand run` shows its agent the file it is about to execute, and the child that
//! executes it. One JSON message per seqpacket, at most [`MAX_MESSAGE`] bytes; the first carries one descriptor
//! (SCM_RIGHTS), the opened CMD. Decides the words only; the agent decides what is believed.

use crate::id::TaskId;
use serde::{Deserialize, Serialize};

/// Longest message, bytes.
pub const MAX_MESSAGE: usize = 4096;

/// From the launcher, in this order on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LaunchRequest {
    /// With the descriptor of CMD: measure it. Answered with a launch id for `errand.v1.Task/Start`.
    Measure,
    /// The child that will execute the descriptor, stopped before it does: the root of `task_id`.
    Root { task_id: TaskId, pid: i32 },
    /// The child has executed: compare what it runs with what was measured.
    Executed,
}

/// From the agent, one for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LaunchReply {
    Measured {
        launch_id: String,
    },
    Accepted,
    /// The task is ended when this answers `Root` or `Executed`.
    Refused {
        why: String,
    },
}
