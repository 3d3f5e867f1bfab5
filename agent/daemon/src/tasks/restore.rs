//! Finding the tasks again after the agent's own restart: each process by number, start time and boot.
//!
//! A launcher that is gone ends its task as if the agent had seen it go; so does another boot.

use super::{LiveTask, Pending, Tasks, guard};
use crate::{
    disk::{DiskError, PinnedDoc, TaskDoc, TasksDoc},
    shared::Shared,
};
use agent_core::{Caller as _, membership::ProcKey};
use agent_workload::{PinnedCaller, proc::Proc};
use proto_types::TaskId;
use std::sync::{Arc, PoisonError};

/// Takes over what was written down. Before any socket is open.
pub fn restore(shared: &Arc<Shared>) -> Result<(), DiskError> {
    let Some(doc) = shared.disk.read::<TasksDoc>(TasksDoc::FILE)? else { return Ok(()) };
    let tasks = &shared.tasks;
    let same_boot = doc.boot_id == tasks.boot_id;
    for end in doc.ends {
        tasks.table().pending.insert(end.task, Pending { reason: end.reason, waiting: Vec::new() });
    }
    for task in &doc.tasks {
        // What is past its deadline was ended by the server itself.
        if task.ends_at > shared.ports.clock.now() {
            restore_one(shared, task, same_boot);
        }
    }
    Ok(())
}

fn restore_one(shared: &Arc<Shared>, doc: &TaskDoc, same_boot: bool) {
    let found = |p: &PinnedDoc| {
        let key = ProcKey { pid: p.pid, start_time: p.start_time };
        same_boot.then(|| shared.witness.pin_again(key).ok()).flatten()
    };
    let launcher = found(&doc.launcher);
    if launcher.is_none() && !doc.handle {
        tracing::info!(task = %doc.id, "the launcher of a task went while the agent was away");
        return gone(&shared.tasks, doc.id);
    }
    let mut root_exit = None;
    if let Some(root) = &doc.root {
        match found(root).filter(|process| is_root_again(&shared.tasks, doc.id, process)) {
            Some(process) => root_exit = Some(guard::exit_of(&process)),
            None => return gone(&shared.tasks, doc.id),
        }
    }
    let task = Arc::new(LiveTask::restore(doc));
    shared.tasks.table().live.insert(doc.id, task.clone());
    let launcher = launcher.filter(|_| !doc.handle).map(|process| guard::exit_of(&process));
    shared.spawn(guard::run(shared.clone(), task, launcher, root_exit));
}

fn is_root_again(tasks: &Tasks, id: TaskId, process: &PinnedCaller) -> bool {
    let Ok(facts) = Proc(process.proc_dir()).facts() else { return false };
    tasks.roots.write().unwrap_or_else(PoisonError::into_inner).start(id, facts).is_ok()
}

fn gone(tasks: &Tasks, id: TaskId) {
    let pending = Pending { reason: "process_gone".into(), waiting: Vec::new() };
    tasks.table().pending.insert(id, pending);
    tasks.deliver.notify_one();
}
