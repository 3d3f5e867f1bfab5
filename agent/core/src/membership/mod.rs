//! Which task a process is in: the innermost whose root is among its ancestors (architecture, section 2).
//!
//! Decides from facts that `agent-workload` read from `/proc`; reads nothing itself. Within one uid membership is
//! attribution, not isolation: a process may start others wherever the kernel lets it.

mod registry;

pub use registry::{Registry, RegistryError, RootState, TaskRoot};

use proto_types::TaskId;

/// Longest parent chain that is followed.
pub const MAX_CHAIN: usize = 256;

/// The user and PID namespace of a process, as inode numbers of nsfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespaces {
    pub user: u64,
    pub pid: u64,
}

/// What `/proc` says about one process of a parent chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcFacts {
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// 0 for the first process of the namespace.
    pub ppid: i32,
    /// Real, effective, saved, filesystem.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    /// `None` where the agent may not look; such a process is in no task.
    pub namespaces: Option<Namespaces>,
}

impl ProcFacts {
    /// What makes a process this one and not a later one of the same number.
    pub fn key(&self) -> ProcKey {
        ProcKey { pid: self.pid, start_time: self.start_time }
    }
}

/// A process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcKey {
    pub pid: i32,
    pub start_time: u64,
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// In no task: it has what its own selectors earn.
    Outside,
    Member(TaskId),
    /// Its innermost task is over. It does not fall back to an outer task: a revoked child would gain its parent's
    /// wider grants by being revoked.
    Ended(TaskId),
}

/// Why membership could not be decided. Each is a refusal of task credentials, never a guess.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("the parent chain of process {pid} changed while it was read; try again")]
    Moved { pid: i32 },
    #[error("the parent chain of process {pid} has more than {MAX_CHAIN} processes")]
    TooLong { pid: i32 },
    #[error("the parent chain breaks off at process {pid}")]
    Broken { pid: i32 },
    #[error("process {pid} descends from the root of task {task} but its {what} differ from the root's")]
    Differs { pid: i32, task: TaskId, what: &'static str },
}

/// Decides for the process at the head of the chain. `first` and `second` are two readings: the process, its parent,
/// and so on, up to a process without a parent or to one that is a task's root.
pub fn innermost(
    registry: &Registry,
    first: &[ProcFacts],
    second: &[ProcFacts],
) -> Result<Membership, MembershipError> {
    let caller = first.first().map_or(0, |p| p.pid);
    if first != second {
        return Err(MembershipError::Moved { pid: caller });
    }
    if first.len() > MAX_CHAIN {
        return Err(MembershipError::TooLong { pid: caller });
    }
    linked(first)?;
    for (depth, process) in first.iter().enumerate() {
        let Some(root) = registry.at(process.key()) else { continue };
        return match root.state {
            RootState::Ended => Ok(Membership::Ended(root.task)),
            RootState::Live => like_root(root, &first[..=depth]).map(|()| Membership::Member(root.task)),
        };
    }
    match first.last() {
        Some(last) if last.ppid == 0 => Ok(Membership::Outside),
        // An unread rest could hold a root: neither member nor outsider can be said.
        last => Err(MembershipError::Broken { pid: last.map_or(0, |p| p.pid) }),
    }
}

/// Each process is followed by its parent, which cannot be younger than it: a pid that was reused is.
fn linked(chain: &[ProcFacts]) -> Result<(), MembershipError> {
    for pair in chain.windows(2) {
        let (child, parent) = (&pair[0], &pair[1]);
        if child.ppid != parent.pid || parent.start_time > child.start_time || child.pid == parent.pid {
            return Err(MembershipError::Broken { pid: child.pid });
        }
    }
    Ok(())
}

/// Every process from the caller up to the root itself still is what the root was when the task began.
fn like_root(root: &TaskRoot, chain: &[ProcFacts]) -> Result<(), MembershipError> {
    for process in chain {
        let what = if process.uids != root.facts.uids {
            "uids"
        } else if process.gids != root.facts.gids {
            "gids"
        } else if process.namespaces.is_none() || process.namespaces != root.facts.namespaces {
            "user or PID namespaces"
        } else {
            continue;
        };
        return Err(MembershipError::Differs { pid: process.pid, task: root.task, what });
    }
    Ok(())
}
