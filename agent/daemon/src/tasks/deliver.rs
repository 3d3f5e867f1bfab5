//! Telling the server about ends, for ever, until it acknowledges each.
//!
//! An end is idempotent: that the server knows nothing of the task, or has ended it already, is an acknowledgement too.

use super::{Pending, Tasks};
use crate::{node::BACKOFF_CAP, shared::Shared, upstream::timed};
use futures_util::{StreamExt as _, stream};
use proto_types::{TaskId, id::excerpt};
use proto_wire::errand::v1::EndTaskRequest;
use std::{sync::Arc, time::Duration};
use tonic::Code;

/// Ends told at a time.
const AT_ONCE: usize = 8;
/// How long a task that the server names and this agent does not know may still be on its way here.
const STRANGE_AFTER: Duration = Duration::from_secs(60);

/// Delivers ends until the agent stops.
pub async fn run(shared: Arc<Shared>) {
    let tasks = &shared.tasks;
    let mut failures = 0u32;
    loop {
        shared.identified().await;
        let pending: Vec<(TaskId, String)> =
            tasks.table().pending.iter().map(|(id, p)| (*id, p.reason.clone())).collect();
        // On disk before it is told: an agent that is killed now tells it again.
        tasks.save_or_log().await;
        let told = stream::iter(pending).map(|(id, reason)| tell(&shared, id, reason)).buffer_unordered(AT_ONCE);
        let failed = told.filter(|acknowledged| std::future::ready(!acknowledged)).count().await;
        if failed == 0 {
            failures = 0;
            tasks.deliver.notified().await;
            continue;
        }
        failures = failures.saturating_add(1);
        let wait = shared.ports.backoff(failures, BACKOFF_CAP);
        tokio::select! {
            () = shared.ports.clock.sleep(wait) => {}
            () = tasks.deliver.notified() => {}
        }
    }
}

async fn tell(shared: &Shared, id: TaskId, reason: String) -> bool {
    let message = EndTaskRequest { task_id: id.to_string(), reason };
    let open_leases = match shared.upstream.node().end_task(timed(message)).await {
        Ok(answer) => answer.into_inner().open_leases,
        Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument) => 0,
        Err(status) => {
            tracing::warn!(task = %id, code = ?status.code(), why = %excerpt(status.message()), "the server has not heard that a task ended");
            return false;
        }
    };
    let done = shared.tasks.table().pending.remove(&id);
    for waiting in done.into_iter().flat_map(|p| p.waiting) {
        // Whoever waited may have gone; the end is told all the same.
        _ = waiting.send(open_leases);
    }
    shared.tasks.save_or_log().await;
    true
}

impl Tasks {
    /// The server answers again: what it has not heard is told now.
    pub fn server_answers(&self) {
        self.deliver.notify_one();
    }

    /// Tasks that the server started for this node and that the agent has never handed out, since it was killed in
    /// between: nobody holds them, so they end. They get the time that an answer still under way may take.
    pub(super) fn disown_later(shared: &Arc<Shared>, strange: Vec<TaskId>) {
        let later = shared.clone();
        shared.spawn(async move {
            later.ports.clock.sleep(STRANGE_AFTER).await;
            let tasks = &later.tasks;
            let mut table = tasks.table();
            for id in strange {
                if !table.live.contains_key(&id) {
                    let pending = Pending { reason: "process_gone".into(), waiting: Vec::new() };
                    table.pending.entry(id).or_insert(pending);
                }
            }
            drop(table);
            tasks.deliver.notify_one();
        });
    }
}
