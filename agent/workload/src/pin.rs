//! Pinning: from a connected socket (or a number) to one process that cannot be exchanged for another unnoticed.
//!
//! The kernel says who connected (`SO_PEERCRED`, `SO_PEERPIDFD`); `/proc/PID` is opened, read and believed only if the
//! process is alive *after* that, for until it is reaped its number is its own. All four uids and gids must be the ones
//! that connected: a setuid program has others. What a process is entitled to is not decided here.

use crate::{
    proc::{FileId, ProcDir, ReadError, Status},
    witness::{PeerPidfd, Witness},
};
use agent_core::{Caller, CallerError, membership::ProcKey};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt},
};
use std::{
    future::Future,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Why a peer was not pinned. It is refused; nothing is served to a process the kernel does not vouch for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error("the kernel does not name the peer of this socket: {0}")]
    Credentials(Errno),
    #[error("the peer is in a PID namespace the agent cannot see; run the agent in the host's")]
    OtherPidNamespace,
    #[error("process {pid} exited before it was served")]
    Exited { pid: i32 },
    #[error("{tid} is a thread of process {tgid}, not a process")]
    Thread { tid: i32, tgid: i32 },
    #[error(
        "process {pid} connected with another {what} than it has now, in part or whole; a setuid program cannot be served"
    )]
    Identity { pid: i32, what: &'static str },
    #[error("the uid or gid of process {pid} has no number in the agent's user namespace")]
    Unmapped { pid: i32 },
    #[error("cannot read process {pid} in /proc: {why}; the agent must see every process it serves (no hidepid)")]
    Proc { pid: i32, why: ReadError },
    #[error("cannot hold process {pid}: {errno}; the agent needs Linux 5.3 or later")]
    NoPidfd { pid: i32, errno: Errno },
}

/// A held process.
#[derive(Debug)]
pub struct PinnedCaller {
    pid: i32,
    uid: u32,
    gid: u32,
    start_time: u64,
    program: Option<FileId>,
    pidfd: OwnedFd,
    dir: ProcDir,
}

/// What `/proc` says of a process that may be dead meanwhile.
struct Seen {
    dir: ProcDir,
    start_time: u64,
    program: Option<FileId>,
    uid: u32,
    gid: u32,
}

impl Witness {
    /// Pins the process at the other end of a connected unix socket.
    pub fn pin(&self, socket: &impl AsFd) -> Result<PinnedCaller, PinError> {
        let peer = getsockopt(&socket.as_fd(), sockopt::PeerCredentials).map_err(PinError::Credentials)?;
        if peer.pid() <= 0 {
            return Err(PinError::OtherPidNamespace);
        }
        let pidfd = match self.mode {
            PeerPidfd::Auto => peer_pidfd(socket.as_fd(), peer.pid())?,
            PeerPidfd::ByNumber => open_pidfd(peer.pid())?,
        };
        self.pin_held(pidfd, peer.pid(), |_| (peer.uid(), peer.gid()))
    }

    /// Pins a process by number: one that the agent was told of by somebody it believes, such as a launcher its child.
    pub fn pin_pid(&self, pid: i32) -> Result<PinnedCaller, PinError> {
        if pid <= 0 {
            return Err(PinError::OtherPidNamespace);
        }
        self.pin_held(open_pidfd(pid)?, pid, |status| (status.uids[0], status.gids[0]))
    }

    /// Finds a process again after the agent's own restart. The caller has compared the boot id.
    pub fn pin_again(&self, key: ProcKey) -> Result<PinnedCaller, PinError> {
        let found = self.pin_pid(key.pid)?;
        if found.start_time == key.start_time { Ok(found) } else { Err(PinError::Exited { pid: key.pid }) }
    }

    fn pin_held(
        &self,
        pidfd: OwnedFd,
        pid: i32,
        connected_as: impl FnOnce(&Status) -> (u32, u32),
    ) -> Result<PinnedCaller, PinError> {
        // Dead first: a dead process has no directory, or another one's, and should not be told it is hidden.
        if has_exited(&pidfd) {
            return Err(PinError::Exited { pid });
        }
        let seen = self.look(pid, connected_as);
        if has_exited(&pidfd) {
            return Err(PinError::Exited { pid });
        }
        let Seen { dir, start_time, program, uid, gid } = seen?;
        Ok(PinnedCaller { pid, uid, gid, start_time, program, pidfd, dir })
    }

    fn look(&self, pid: i32, connected_as: impl FnOnce(&Status) -> (u32, u32)) -> Result<Seen, PinError> {
        let unread = |why| PinError::Proc { pid, why };
        let dir = self.dir(pid).map_err(unread)?;
        let proc = dir.as_dir();
        let (stat, status) = (proc.stat().map_err(unread)?, proc.status().map_err(unread)?);
        let (uid, gid) = connected_as(&status);
        same_process(pid, &status)?;
        same_identity((uid, gid), &status)?;
        if stat.is_dead() {
            return Err(PinError::Exited { pid });
        }
        if self.is_unmapped(uid, gid, proc) {
            return Err(PinError::Unmapped { pid });
        }
        let program = proc.exe().map_err(unread)?;
        Ok(Seen { dir, start_time: stat.start_time, program, uid, gid })
    }
}

/// That `/proc/PID` is of a process and not of one of its threads, which have directories too.
fn same_process(pid: i32, status: &Status) -> Result<(), PinError> {
    if status.tgid != status.pid {
        return Err(PinError::Thread { tid: status.pid, tgid: status.tgid });
    }
    if status.pid == pid { Ok(()) } else { Err(PinError::OtherPidNamespace) }
}

/// That real, effective, saved and filesystem id all are the one the socket was connected with.
pub(crate) fn same_identity(connected: (u32, u32), status: &Status) -> Result<(), PinError> {
    let what = if status.uids != [connected.0; 4] {
        "uid"
    } else if status.gids != [connected.1; 4] {
        "gid"
    } else {
        return Ok(());
    };
    Err(PinError::Identity { pid: status.pid, what })
}

/// The pidfd the kernel keeps with the socket: of the process that connected, dead or alive.
fn peer_pidfd(socket: BorrowedFd<'_>, pid: i32) -> Result<OwnedFd, PinError> {
    match getsockopt(&socket, sockopt::PeerPidfd) {
        Ok(fd) => Ok(fd),
        Err(Errno::ENOPROTOOPT) => open_pidfd(pid),
        // Kernels differ in how they say that the peer was reaped already.
        Err(Errno::ESRCH | Errno::EINVAL | Errno::ENODATA) => Err(PinError::Exited { pid }),
        Err(errno) => Err(PinError::NoPidfd { pid, errno }),
    }
}

fn open_pidfd(pid: i32) -> Result<OwnedFd, PinError> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let raw = Pid::from_raw(pid).ok_or(PinError::OtherPidNamespace)?;
    pidfd_open(raw, PidfdFlags::empty()).map_err(|e| match Errno::from_raw(e.raw_os_error()) {
        Errno::ESRCH => PinError::Exited { pid },
        // What exists and is no process is a thread; which process it is of is not worth another reading. Newer
        // kernels answer ENOENT.
        Errno::EINVAL | Errno::ENOENT => PinError::Thread { tid: pid, tgid: 0 },
        errno => PinError::NoPidfd { pid, errno },
    })
}

/// A pidfd is readable once its process is dead. An error counts as dead.
fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(0) => return false,
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => return true,
        }
    }
}

impl PinnedCaller {
    /// Completes when the process exits. It holds a descriptor of its own and outlives `self`. Needs a tokio runtime.
    #[expect(
        deprecated,
        reason = "sound for an `OwnedFd`, which stays one descriptor; the successor needs unsafe code"
    )]
    pub fn exited(&self) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let watched = AsyncFd::with_interest(self.pidfd.try_clone()?, Interest::READABLE)?;
        Ok(async move {
            loop {
                // An error means that the runtime is going: then nothing is served any more either.
                let Ok(mut ready) = watched.readable().await else { return };
                if has_exited(watched.get_ref()) {
                    return;
                }
                ready.clear_ready();
            }
        })
    }

    pub fn key(&self) -> ProcKey {
        ProcKey { pid: self.pid, start_time: self.start_time }
    }

    /// The program it ran when it was pinned. `None` where the agent may not look.
    pub fn program(&self) -> Option<FileId> {
        self.program
    }

    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn unchanged(&self) -> Result<(), CallerError> {
        let pid = self.pid;
        let unread = |why: ReadError| match why {
            ReadError::Gone => CallerError::Exited { pid },
            why => CallerError::Unreadable { pid, what: "its entry in /proc", why: why.to_string() },
        };
        let proc = self.dir.as_dir();
        let (stat, status) = (proc.stat().map_err(unread)?, proc.status().map_err(unread)?);
        let changed = |what| Err(CallerError::Changed { pid, what });
        if stat.is_dead() || stat.start_time != self.start_time {
            return Err(CallerError::Exited { pid });
        }
        if same_identity((self.uid, self.gid), &status).is_err() {
            return changed("uid or gid");
        }
        let program = proc.exe().map_err(unread)?;
        let same = match (&program, &self.program) {
            (Some(now), Some(then)) => now.is_same_file(then),
            (now, then) => now.is_none() && then.is_none(),
        };
        if same { Ok(()) } else { changed("program") }
    }
}

impl Caller for PinnedCaller {
    fn pid(&self) -> i32 {
        self.pid
    }
    fn uid(&self) -> u32 {
        self.uid
    }
    fn gid(&self) -> u32 {
        self.gid
    }
    fn start_time(&self) -> u64 {
        self.start_time
    }
    fn proc_dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
    fn recheck(&self) -> Result<(), CallerError> {
        let seen = self.unchanged();
        // Last, so that all that was read is of a process that still lived.
        if has_exited(&self.pidfd) { Err(CallerError::Exited { pid: self.pid }) } else { seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uids: [u32; 4], gids: [u32; 4]) -> Status {
        Status { pid: 7, tgid: 7, ppid: 1, uids, gids, groups: vec![], ns_pids: vec![7] }
    }

    #[test]
    fn every_one_of_the_four_ids_counts() {
        assert_eq!(same_identity((5, 6), &status([5; 4], [6; 4])), Ok(()));
        for place in 0..4 {
            let (mut uids, mut gids) = ([5; 4], [6; 4]);
            uids[place] = 0;
            gids[place] = 0;
            assert!(same_identity((5, 6), &status(uids, [6; 4])).is_err());
            assert!(same_identity((5, 6), &status([5; 4], gids)).is_err());
        }
    }

    #[test]
    fn a_thread_and_a_number_of_another_namespace_are_not_the_process() {
        assert!(same_process(7, &status([5; 4], [6; 4])).is_ok());
        assert!(same_process(8, &status([5; 4], [6; 4])).is_err());
        let thread = Status { pid: 8, ..status([5; 4], [6; 4]) };
        assert_eq!(same_process(8, &thread), Err(PinError::Thread { tid: 8, tgid: 7 }));
    }
}
