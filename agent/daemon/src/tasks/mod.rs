//! The tasks of this node: who launched them, which process is their root, what SVID they hold, and how they end.
//!
//! Decides who is in a task (with `agent-core` and `/proc`) and when one is over here. Whether one may start is the
//! server's decision. An end is carried out here at once and told to the server until it acknowledges: the list of what
//! it has not heard is on disk.

pub mod credentials;
pub mod deliver;
pub mod guard;
pub mod launch;
mod live;
mod restore;
pub use restore::restore;
mod rpc;
mod start;

pub use live::{LiveTask, TaskSvid};
pub use rpc::TaskService;

use crate::{
    disk::{DataDir, PendingEnd, TasksDoc},
    shared::Shared,
};
use agent_core::membership::{Membership, Registry};
use agent_workload::{PinnedCaller, Witness, chain, chain::ChainError};
use proto_types::TaskId;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};
use tokio::sync::{Notify, oneshot};

/// Most tasks that live on one node at a time.
pub const MAX_TASKS: usize = 4096;

/// An end the server has not acknowledged, and who waits for that.
struct Pending {
    reason: String,
    waiting: Vec<oneshot::Sender<u32>>,
}

#[derive(Default)]
struct Table {
    live: HashMap<TaskId, Arc<LiveTask>>,
    pending: BTreeMap<TaskId, Pending>,
}

/// All tasks of this node.
pub struct Tasks {
    boot_id: String,
    disk: Arc<DataDir>,
    witness: Arc<Witness>,
    table: Mutex<Table>,
    roots: RwLock<Registry>,
    /// Writes of the file, one after the other, each of the newest state.
    saving: tokio::sync::Mutex<()>,
    deliver: Notify,
    pub launches: launch::Launches,
}

impl Tasks {
    pub fn new(boot_id: String, disk: Arc<DataDir>, witness: Arc<Witness>) -> Self {
        Self {
            boot_id,
            disk,
            witness,
            table: Mutex::default(),
            roots: RwLock::new(Registry::new()),
            saving: tokio::sync::Mutex::new(()),
            deliver: Notify::new(),
            launches: launch::Launches::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, id: &TaskId) -> Option<Arc<LiveTask>> {
        self.table().live.get(id).cloned()
    }

    pub fn live_ids(&self) -> HashSet<TaskId> {
        self.table().live.keys().copied().collect()
    }

    /// The tasks that `caller` launched and that live.
    fn launched_by(&self, caller: &PinnedCaller) -> Vec<Arc<LiveTask>> {
        self.table().live.values().filter(|t| t.is_launcher(caller.key())).cloned().collect()
    }

    /// Which task `caller` is in. Reads `/proc`.
    pub fn membership(&self, caller: &PinnedCaller) -> Result<Membership, ChainError> {
        chain::membership(&self.witness, caller, &self.roots.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends a task here: its SVID is dropped, its streams hear of it, its members are in no task any more. The server is
    /// told when `tell` says so; the answer then carries the leases it had left to revoke.
    fn end_here(&self, id: TaskId, reason: &str, tell: bool) -> Option<oneshot::Receiver<u32>> {
        let mut table = self.table();
        let task = table.live.remove(&id)?;
        let children: Vec<TaskId> = table.live.values().filter(|t| t.parent == Some(id)).map(|t| t.id).collect();
        let heard = tell.then(|| {
            let (tx, rx) = oneshot::channel();
            table.pending.insert(id, Pending { reason: reason.into(), waiting: vec![tx] });
            rx
        });
        drop(table);
        self.roots.write().unwrap_or_else(PoisonError::into_inner).end(&id);
        task.finish(reason);
        tracing::info!(task = %id, reason, "task ended");
        // The server ends the children with their parent; here they end without waiting for its word.
        for child in children {
            self.end_here(child, "parent_ended", false);
        }
        self.deliver.notify_one();
        heard
    }

    /// The server says that a task is over.
    pub fn ended_by_server(&self, id: TaskId, reason: &str) {
        self.end_here(id, reason, false);
    }

    /// Ends every task here without telling the server, which has ended them with the node.
    pub fn end_all_here(&self, reason: &str) {
        for id in self.live_ids() {
            self.end_here(id, reason, false);
        }
    }

    /// The root's process is gone: nothing can descend from it any more.
    fn forget_root(&self, id: &TaskId) {
        self.roots.write().unwrap_or_else(PoisonError::into_inner).forget(id);
    }

    /// Compares with what the server says lives. `known` are the tasks that were here before it was asked.
    pub fn reconcile(shared: &Arc<Shared>, live: &HashSet<TaskId>, known: &HashSet<TaskId>) {
        for id in known.difference(live) {
            shared.tasks.ended_by_server(*id, "revoked");
        }
        let table = shared.tasks.table();
        let strange: Vec<TaskId> =
            live.iter().filter(|id| !table.live.contains_key(id) && !table.pending.contains_key(id)).copied().collect();
        drop(table);
        if !strange.is_empty() {
            Self::disown_later(shared, strange);
        }
    }

    /// What must survive a restart.
    fn document(&self) -> TasksDoc {
        let table = self.table();
        TasksDoc {
            version: TasksDoc::VERSION,
            boot_id: self.boot_id.clone(),
            tasks: table.live.values().map(|t| t.document()).collect(),
            ends: table.pending.iter().map(|(id, p)| PendingEnd { task: *id, reason: p.reason.clone() }).collect(),
        }
    }

    /// Writes the tasks and the unacknowledged ends down; returns when that is on disk.
    pub async fn save(&self) -> Result<(), crate::disk::DiskError> {
        let _turn = self.saving.lock().await;
        let doc = self.document();
        crate::shared::on_disk(self.disk.clone(), move |disk| disk.keep(TasksDoc::FILE, &doc)).await
    }

    /// The same, where nothing more can be done about a failure than to say so.
    async fn save_or_log(&self) {
        if let Err(e) = self.save().await {
            tracing::error!(error = %e, "the tasks cannot be written down");
        }
    }
}
