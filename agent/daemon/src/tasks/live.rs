//! One live task.

use crate::{
    disk::{PinnedDoc, TaskDoc},
    x509::X509Svid,
};
use agent_core::{Caller as _, membership::ProcKey};
use agent_workload::{Measured, PinnedCaller, proc::Proc, proc::cgroup};
use arc_swap::ArcSwapOption;
use proto_types::{EntryId, SpiffeId, TaskId, Timestamp};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Mutex, Notify, watch};

/// What a task holds: its SVID, and the token for the token endpoint where the server gave one with it.
pub struct TaskSvid {
    pub svid: X509Svid,
    pub subject_token: Option<proto_types::Secret<String>>,
    /// When to get the next one.
    pub renew_at: Timestamp,
}

/// What began a task.
pub struct Beginning {
    pub id: TaskId,
    pub entry: EntryId,
    pub workload: SpiffeId,
    pub parent: Option<TaskId>,
    pub ends_at: Timestamp,
    pub handle: bool,
    pub launcher: PinnedDoc,
    /// The file of its command, as it was measured.
    pub measured: Option<Arc<Measured>>,
}

/// A task that has not ended.
pub struct LiveTask {
    pub id: TaskId,
    pub entry: EntryId,
    pub workload: SpiffeId,
    pub parent: Option<TaskId>,
    pub ends_at: Timestamp,
    /// Held by a key: no process's end is its end.
    pub handle: bool,
    launcher: PinnedDoc,
    pub measured: Option<Arc<Measured>>,
    root: OnceLock<PinnedDoc>,
    /// Signals that `root` was set.
    pub(super) rooted: Notify,
    pub(super) svid: ArcSwapOption<TaskSvid>,
    /// One renewal at a time.
    pub(super) renewing: Mutex<()>,
    ended: watch::Sender<Option<String>>,
}

impl LiveTask {
    pub fn new(begin: Beginning) -> Self {
        Self {
            id: begin.id,
            entry: begin.entry,
            workload: begin.workload,
            parent: begin.parent,
            ends_at: begin.ends_at,
            handle: begin.handle,
            launcher: begin.launcher,
            measured: begin.measured,
            root: OnceLock::new(),
            rooted: Notify::new(),
            svid: ArcSwapOption::empty(),
            renewing: Mutex::new(()),
            ended: watch::Sender::new(None),
        }
    }

    /// From what was written down.
    pub fn restore(doc: &TaskDoc) -> Self {
        let task = Self::new(Beginning {
            id: doc.id,
            entry: doc.entry.clone(),
            workload: doc.workload.clone(),
            parent: doc.parent,
            ends_at: doc.ends_at,
            handle: doc.handle,
            launcher: doc.launcher.clone(),
            measured: None,
        });
        if let Some(root) = &doc.root {
            task.set_root(root.clone());
        }
        task
    }

    pub fn document(&self) -> TaskDoc {
        TaskDoc {
            id: self.id,
            entry: self.entry.clone(),
            workload: self.workload.clone(),
            parent: self.parent,
            ends_at: self.ends_at,
            handle: self.handle,
            launcher: self.launcher.clone(),
            root: self.root.get().cloned(),
        }
    }

    pub fn is_launcher(&self, key: ProcKey) -> bool {
        self.launcher_key() == key
    }
    pub fn launcher_key(&self) -> ProcKey {
        ProcKey { pid: self.launcher.pid, start_time: self.launcher.start_time }
    }
    pub fn root_key(&self) -> Option<ProcKey> {
        self.root.get().map(|r| ProcKey { pid: r.pid, start_time: r.start_time })
    }

    /// `false`: it has one already.
    pub fn set_root(&self, root: PinnedDoc) -> bool {
        let new = self.root.set(root).is_ok();
        self.rooted.notify_one();
        new
    }

    /// The SVID it holds, unless it is over.
    pub fn current(&self, now: Timestamp) -> Option<Arc<TaskSvid>> {
        self.svid.load_full().filter(|s| now < s.svid.not_after && self.end_reason().is_none())
    }

    pub(super) fn finish(&self, reason: &str) {
        // Set before the SVID goes: a renewal that is under way looks here before it stores what it got.
        self.ended.send_replace(Some(reason.into()));
        self.svid.store(None);
    }
    pub fn end_reason(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Completes with the reason when the task has ended.
    pub async fn ended(&self) -> String {
        let mut changes = self.ended.subscribe();
        let reason = changes.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }
}

/// A held process as it is written down.
pub fn pinned_doc(process: &PinnedCaller) -> PinnedDoc {
    let groups = Proc(process.proc_dir()).cgroups().unwrap_or_default();
    let cgroup = cgroup::unified(&groups).unwrap_or_default().to_string();
    PinnedDoc { pid: process.pid(), start_time: process.start_time(), cgroup }
}
