//! Who is a member of the task: by the same reading of the kernel and the same decision as the agent's
//! (`agent_workload`, `agent_core::membership`), with the one root that this process started.
//!
//! A member descends from the root, with the root's ids and namespaces all the way; where CMD has a cgroup of its own, it
//! is in that or below it.

use agent_core::{
    Caller, CallerError,
    membership::{Membership, Registry, RegistryError},
};
use agent_workload::{
    PeerPidfd, PinError, PinnedCaller, Witness, WitnessError,
    chain::{self, ChainError},
    proc::{Proc, ReadError, cgroup},
};
use proto_types::TaskId;
use std::os::fd::AsFd;

/// Why members cannot be told from others.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    #[error(transparent)]
    Witness(#[from] WitnessError),
    #[error("CMD's process cannot be read in /proc: {0}")]
    Root(#[from] ReadError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("CMD's process is not in the cgroup that was made for it")]
    Group,
}

/// Why a process is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Caller(#[from] CallerError),
    #[error("the cgroup of process {pid} cannot be read: {why}")]
    Unreadable { pid: i32, why: ReadError },
    #[error("process {pid} is not in the task")]
    Outside { pid: i32 },
    #[error("process {pid} has left the task's cgroup")]
    OtherGroup { pid: i32 },
}

/// The members of one task.
#[derive(Debug)]
pub struct Members {
    witness: Witness,
    registry: Registry,
    task: TaskId,
    /// Of the unified hierarchy, where one was made.
    group: Option<String>,
}

impl Members {
    /// `root`, which is a child of this process and not yet reaped, and what descends from it.
    pub fn of(task: TaskId, root: i32, has_own_group: bool) -> Result<Self, MembersError> {
        let witness = Witness::open(PeerPidfd::Auto)?;
        let dir = witness.dir(root)?;
        let mut registry = Registry::new();
        registry.start(task, dir.as_dir().facts()?)?;
        let groups = if has_own_group { dir.as_dir().cgroups()? } else { Vec::new() };
        let group = cgroup::unified(&groups).map(str::to_string);
        if has_own_group && group.is_none() {
            return Err(MembersError::Group);
        }
        Ok(Self { witness, registry, task, group })
    }

    /// The process at the other end of `socket`, if it is a member.
    pub fn pin(&self, socket: &impl AsFd) -> Result<PinnedCaller, Refused> {
        let caller = self.witness.pin(socket)?;
        self.check(&caller)?;
        Ok(caller)
    }

    /// That it still is.
    pub fn check(&self, caller: &PinnedCaller) -> Result<(), Refused> {
        let pid = caller.pid();
        match chain::membership(&self.witness, caller, &self.registry)? {
            Membership::Member(task) if task == self.task => {}
            _ => return Err(Refused::Outside { pid }),
        }
        if let Some(group) = &self.group {
            let groups = Proc(caller.proc_dir()).cgroups().map_err(|why| Refused::Unreadable { pid, why })?;
            if !cgroup::unified(&groups).is_some_and(|own| is_below(own, group)) {
                return Err(Refused::OtherGroup { pid });
            }
        }
        // Last, so that all that was read is of a process that still lives.
        Ok(caller.recheck()?)
    }
}

fn is_below(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_holds_itself_and_what_is_below_it_and_not_what_is_called_alike() {
        for inside in ["/u/errand-1", "/u/errand-1/a/b"] {
            assert!(is_below(inside, "/u/errand-1"), "{inside}");
        }
        for outside in ["/u", "/", "", "/u/errand-12", "/u/errand-1 (deleted)", "/v/errand-1"] {
            assert!(!is_below(outside, "/u/errand-1"), "{outside}");
        }
    }
}
