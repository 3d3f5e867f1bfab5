//! The task roots of this node, by process and by task.
//!
//! Holds what the daemon registers and persists; notices no exit itself.

use super::{ProcFacts, ProcKey};
use proto_types::TaskId;
use std::collections::HashMap;

/// Most roots remembered, ended ones among them.
pub const MAX_ROOTS: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    Live,
    /// The task is over, its root process may still run.
    Ended,
}

/// The first process of a task, with its facts at the moment the task began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRoot {
    pub task: TaskId,
    pub facts: ProcFacts,
    pub state: RootState,
}

/// Why a root was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    #[error("process {pid} is already the root of task {task}")]
    Taken { pid: i32, task: TaskId },
    #[error("task {task} already has a root")]
    Rooted { task: TaskId },
    #[error("the namespaces of process {pid} cannot be read, so it cannot be the root of a task")]
    Unseen { pid: i32 },
    #[error("this node already remembers {MAX_ROOTS} task roots")]
    Full,
}

#[derive(Debug, Default)]
pub struct Registry {
    roots: HashMap<ProcKey, TaskRoot>,
    by_task: HashMap<TaskId, ProcKey>,
}

impl Registry {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn start(&mut self, task: TaskId, facts: ProcFacts) -> Result<(), RegistryError> {
        let key = facts.key();
        if let Some(taken) = self.roots.get(&key) {
            return Err(RegistryError::Taken { pid: key.pid, task: taken.task });
        }
        if self.by_task.contains_key(&task) {
            return Err(RegistryError::Rooted { task });
        }
        if facts.namespaces.is_none() {
            return Err(RegistryError::Unseen { pid: key.pid });
        }
        if self.roots.len() >= MAX_ROOTS {
            return Err(RegistryError::Full);
        }
        self.by_task.insert(task, key);
        self.roots.insert(key, TaskRoot { task, facts, state: RootState::Live });
        Ok(())
    }

    /// The task is over; its root is remembered until [`Registry::forget`], so that what still runs below it is known
    /// to be in an ended task. `false` when the task is unknown.
    pub fn end(&mut self, task: &TaskId) -> bool {
        let root = self.by_task.get(task).and_then(|key| self.roots.get_mut(key));
        root.map(|r| r.state = RootState::Ended).is_some()
    }

    /// The root process is gone: nothing can be its descendant any more, since the kernel gives its children another
    /// parent.
    pub fn forget(&mut self, task: &TaskId) -> Option<TaskRoot> {
        self.by_task.remove(task).and_then(|key| self.roots.remove(&key))
    }

    pub fn at(&self, key: ProcKey) -> Option<&TaskRoot> {
        self.roots.get(&key)
    }

    pub fn get(&self, task: &TaskId) -> Option<&TaskRoot> {
        self.by_task.get(task).and_then(|key| self.roots.get(key))
    }

    pub fn iter(&self) -> impl Iterator<Item = &TaskRoot> {
        self.roots.values()
    }

    pub fn len(&self) -> usize {
        self.roots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}
