//! Tasks, leases and records as people see them: the JSON shapes that scripts rely on.

use proto_types::{Lease, Position, Record, Task};
use serde_json::{Value, json};
use std::sync::Arc;

/// `task {id, parent, workload, user, intent, state, grants[], started_at, ends_at, ended_at, end_reason, leases[]}`.
pub(super) fn task(task: &Task, leases: &[Arc<Lease>]) -> Value {
    json!({
        "id": task.id,
        "parent": task.parent,
        "root": task.root,
        "depth": task.depth,
        "workload": task.workload.to_string(),
        "node": task.node.to_string(),
        "user": task.user,
        "intent": task.intent,
        "state": task.state,
        "grants": task.grants,
        "handle": task.handle,
        "started_at": task.started_at,
        "ends_at": task.ends_at,
        "ended_at": task.ended_at,
        "end_reason": task.end_reason,
        "leases": leases.iter().map(|l| lease(l)).collect::<Vec<_>>(),
    })
}

/// `lease {id, task_id, target, role, name, state, revocability, issued_at, expires_at, revoked_at}`.
pub(super) fn lease(lease: &Lease) -> Value {
    json!({
        "id": lease.id,
        "task_id": lease.task_id,
        "workload": lease.workload.to_string(),
        "target": lease.role.target(),
        "role": lease.role.role(),
        "kind": lease.kind,
        "name": lease.name,
        "state": lease.state,
        "revocability": lease.revocability,
        "issued_at": lease.issued_at,
        "expires_at": lease.expires_at,
        "revoked_at": lease.revoked_at,
        "tries": lease.tries,
        "last_error": lease.last_error,
    })
}

/// A journal record with its position, every field of the shape present.
pub(super) fn record(position: Position, record: &Record) -> Value {
    server_core::journal::plain(position, record)
}
