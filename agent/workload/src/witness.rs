//! The kernel's view of this machine, opened once at start: `/proc`, and how peers are pinned.
//!
//! Refuses a `/proc` that cannot be believed, before anybody is served by it.

use crate::proc::{Proc, ReadError, read_bounded};
use nix::{
    fcntl::{OFlag, open},
    sys::{
        stat::Mode,
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// How the peer of a socket is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PeerPidfd {
    /// By `SO_PEERPIDFD` where the kernel has it (6.5), else as [`PeerPidfd::ByNumber`].
    #[default]
    Auto,
    /// By `pidfd_open` of the number `SO_PEERCRED` names. Weaker: a process of the same uid and gid that took the number
    /// of a dead peer before this call is taken for it.
    ByNumber,
}

/// Why `/proc` cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    #[error("cannot open {path}: {errno}; the agent needs the host's /proc")]
    Open { path: PathBuf, errno: nix::errno::Errno },
    #[error("{path} is not a proc file system; mount one there")]
    NotProc { path: PathBuf },
    #[error("{path} belongs to another PID namespace; mount the agent's own /proc there")]
    OtherPidNamespace { path: PathBuf },
    #[error("cannot read the agent's own entry in {path}: {why}")]
    Own { path: PathBuf, why: ReadError },
}

/// Pins processes; see [`Witness::pin`](crate::pin) and its neighbours.
#[derive(Debug)]
pub struct Witness {
    proc: OwnedFd,
    pub(crate) mode: PeerPidfd,
    /// The uid and gid the kernel shows for one that has no number in this user namespace.
    pub(crate) overflow: (u32, u32),
    pub(crate) user_namespace: u64,
}

impl Witness {
    /// Opens `/proc`.
    pub fn open(mode: PeerPidfd) -> Result<Self, WitnessError> {
        Self::at(Path::new("/proc"), mode)
    }

    /// Opens a proc file system mounted elsewhere.
    pub fn at(path: &Path, mode: PeerPidfd) -> Result<Self, WitnessError> {
        let own = |why| WitnessError::Own { path: path.into(), why };
        let proc = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| WitnessError::Open { path: path.into(), errno })?;
        match fstatfs(&proc) {
            Ok(fs) if fs.filesystem_type() == PROC_SUPER_MAGIC => {}
            _ => return Err(WitnessError::NotProc { path: path.into() }),
        }
        // `self` names the reader as that proc file system's namespace numbers it, and is missing where it has no number.
        let named = nix::fcntl::readlinkat(&proc, "self");
        if named.ok().and_then(|n| n.to_str()?.parse().ok()) != Some(nix::unistd::getpid().as_raw()) {
            return Err(WitnessError::OtherPidNamespace { path: path.into() });
        }
        let myself = crate::proc::ProcDir::open(&proc, nix::unistd::getpid().as_raw()).map_err(own)?;
        let user_namespace = myself.as_dir().namespace("ns/user").map_err(own)?;
        let overflow = (overflow(&proc, "sys/kernel/overflowuid"), overflow(&proc, "sys/kernel/overflowgid"));
        Ok(Self { proc, mode, overflow, user_namespace })
    }

    /// `/proc/PID` of a process, for one reading; see [`crate::PinnedCaller`] for more than one.
    pub fn dir(&self, pid: i32) -> Result<crate::proc::ProcDir, ReadError> {
        crate::proc::ProcDir::open(&self.proc, pid)
    }

    /// Whether a process shows an id that has no number here: it then stands for any of many.
    pub(crate) fn is_unmapped(&self, uid: u32, gid: u32, of: Proc<'_>) -> bool {
        (uid == self.overflow.0 || gid == self.overflow.1) && of.namespace("ns/user") != Ok(self.user_namespace)
    }
}

impl AsFd for Witness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }
}

fn overflow(proc: &OwnedFd, file: &'static str) -> u32 {
    let text = read_bounded(proc, file, 32).ok().and_then(|b| String::from_utf8(b).ok());
    // The kernel's own default; it may be hidden in a container.
    text.and_then(|t| t.trim().parse().ok()).unwrap_or(65_534)
}
