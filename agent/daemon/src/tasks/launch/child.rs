//! Whether a process is the root that a launcher says it is.

use crate::shared::Shared;
use agent_core::{
    Caller as _,
    membership::{ProcFacts, RegistryError},
};
use agent_workload::{Measured, PinError, PinnedCaller, proc::Proc, proc::ReadError};
use proto_types::TaskId;
use std::sync::PoisonError;

/// Why a process is not taken for the root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTheRoot {
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error("the process cannot be read in /proc: {0}")]
    Unreadable(#[from] ReadError),
    #[error("process {pid} changed while it was looked at")]
    Moved { pid: i32 },
    #[error("process {pid} is not a child of the launcher")]
    NotAChild { pid: i32 },
    #[error("process {pid} has other {what} than the launcher")]
    Differs { pid: i32, what: &'static str },
    #[error(transparent)]
    Caller(#[from] agent_core::CallerError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Pins the child and registers it as the root of `task`.
pub fn take(shared: &Shared, launcher: &PinnedCaller, task: TaskId, pid: i32) -> Result<PinnedCaller, NotTheRoot> {
    let child = shared.witness.pin_pid(pid)?;
    let facts = Proc(child.proc_dir()).facts()?;
    let parent = Proc(launcher.proc_dir()).facts()?;
    same_kind(&facts, &parent)?;
    // Both alive and unchanged after all that was read of them: then the child was the launcher's when it was read.
    if Proc(child.proc_dir()).facts()? != facts {
        return Err(NotTheRoot::Moved { pid });
    }
    child.recheck()?;
    launcher.recheck()?;
    shared.tasks.roots.write().unwrap_or_else(PoisonError::into_inner).start(task, facts)?;
    Ok(child)
}

fn same_kind(child: &ProcFacts, launcher: &ProcFacts) -> Result<(), NotTheRoot> {
    let pid = child.pid;
    if child.ppid != launcher.pid {
        return Err(NotTheRoot::NotAChild { pid });
    }
    let what = if child.uids != launcher.uids {
        "uids"
    } else if child.gids != launcher.gids {
        "gids"
    } else if child.namespaces.is_none() || child.namespaces != launcher.namespaces {
        "user or PID namespaces"
    } else {
        return Ok(());
    };
    Err(NotTheRoot::Differs { pid, what })
}

/// Whether the child runs what was measured. One that has exited already runs nothing that could be served.
pub fn runs(child: &PinnedCaller, measured: &Measured) -> bool {
    let seen = Proc(child.proc_dir()).exe();
    // Its exec changed the program it was pinned with; that alone is what `recheck` reports as a change here.
    let exited = matches!(child.recheck(), Err(agent_core::CallerError::Exited { .. }));
    exited || seen == Ok(Some(measured.runs()))
}
