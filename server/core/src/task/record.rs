//! Tasks in the journal: a record carries the whole new task, so that a follower never asks the store.
//!
//! A task's intent and user are people's words: they stand in the record's own fields, which the journal salts,
//! and not a second time in `detail`.

use proto_types::{DecisionNote, Record, Task, Timestamp};
use serde_json::json;

/// The record of one change of a task: `verb` is `started`, `ended` or another past tense.
pub fn record(verb: &str, task: &Task, now: Timestamp, decision: Option<DecisionNote>) -> Record {
    let mut whole = serde_json::to_value(task).unwrap_or_default();
    if let Some(fields) = whole.as_object_mut() {
        fields.remove("intent");
        fields.remove("user");
    }
    Record {
        time: now,
        kind: format!("task.{verb}"),
        workload: Some(task.workload.to_string()),
        user: task.user.clone(),
        task_id: Some(task.id),
        target: None,
        role: None,
        intent: Some(task.intent.clone()),
        tool: None,
        decision,
        credential: None,
        node: Some(task.node.to_string()),
        operator: None,
        outcome: "ok".into(),
        detail: json!({ "task": whole }),
    }
}

/// The task that a record carries; an intent that was redacted comes back empty.
pub fn from_record(record: &Record) -> Option<Task> {
    let mut whole = record.detail.get("task")?.as_object()?.clone();
    whole.insert("intent".into(), json!(record.intent.clone().unwrap_or_default()));
    whole.insert("user".into(), json!(record.user));
    serde_json::from_value(whole.into()).ok()
}
