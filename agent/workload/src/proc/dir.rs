//! One process's directory, opened once: it never comes to mean a later process of the same number.

use super::{ReadError, Stat, Status, cgroup, stat, status};
use agent_core::membership::{Namespaces, ProcFacts};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, fstatat},
};
use rustix::fs::{AtFlags as StatxAt, StatxFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What makes a file this one, with these contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Change and modification time: seconds and nanoseconds. The first cannot be set by the file's owner.
    pub ctime: (i64, u32),
    pub mtime: (i64, u32),
}

impl FileId {
    /// The same file, whatever was done to its contents.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// What `name` under `dir` leads to, from what the kernel holds: a file system run by a user's process is not asked,
    /// since it need never answer. An empty `name` is `dir` itself.
    pub fn at(dir: impl AsFd, name: &'static str) -> Result<(Self, u16), ReadError> {
        let flags = StatxAt::STATX_DONT_SYNC | if name.is_empty() { StatxAt::EMPTY_PATH } else { StatxAt::empty() };
        let s = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)
            .map_err(|e| ReadError::from_errno("statx", Errno::from_raw(e.raw_os_error())))?;
        let id = Self {
            dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
            ino: s.stx_ino,
            size: s.stx_size,
            ctime: (s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
            mtime: (s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
        };
        Ok((id, s.stx_mode))
    }
}

/// `/proc/PID`.
#[derive(Debug)]
pub struct ProcDir {
    fd: OwnedFd,
}

impl ProcDir {
    /// Opens the directory of `pid` under an opened `/proc`.
    pub fn open(proc: impl AsFd, pid: i32) -> Result<Self, ReadError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(proc, pid.to_string().as_str(), flags, Mode::empty())
            .map_err(|e| ReadError::from_errno("/proc/PID", e))?;
        Ok(Self { fd })
    }

    pub fn as_dir(&self) -> Proc<'_> {
        Proc(self.fd.as_fd())
    }
}

impl AsFd for ProcDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A borrowed `/proc/PID`.
#[derive(Clone, Copy)]
pub struct Proc<'a>(pub BorrowedFd<'a>);

impl Proc<'_> {
    pub fn stat(self) -> Result<Stat, ReadError> {
        Stat::parse(&read_bounded(self.0, "stat", stat::LIMIT)?)
    }

    pub fn status(self) -> Result<Status, ReadError> {
        Status::parse(&read_bounded(self.0, "status", status::LIMIT)?)
    }

    pub fn cgroups(self) -> Result<Vec<cgroup::Cgroup>, ReadError> {
        cgroup::parse(&read_bounded(self.0, "cgroup", cgroup::LIMIT)?)
    }

    /// The program it runs. `None`: it has none (a kernel thread), or the agent may not look.
    pub fn exe(self) -> Result<Option<FileId>, ReadError> {
        match FileId::at(self.0, "exe") {
            Ok((id, _)) => Ok(Some(id)),
            Err(ReadError::Gone | ReadError::Io { errno: Errno::EACCES | Errno::EPERM, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The inode of one of its namespaces: `ns/user`, `ns/pid`, `ns/mnt`.
    pub fn namespace(self, name: &'static str) -> Result<u64, ReadError> {
        let found = fstatat(self.0, name, AtFlags::empty()).map_err(|e| ReadError::from_errno(name, e))?;
        Ok(found.st_ino)
    }

    /// What membership looks at. All of it is of one process, however the reading is interrupted.
    pub fn facts(self) -> Result<ProcFacts, ReadError> {
        let (stat, status) = (self.stat()?, self.status()?);
        let namespaces = match (self.namespace("ns/user"), self.namespace("ns/pid")) {
            (Ok(user), Ok(pid)) => Some(Namespaces { user, pid }),
            _ => None,
        };
        Ok(ProcFacts {
            pid: stat.pid,
            start_time: stat.start_time,
            ppid: stat.ppid,
            uids: status.uids,
            gids: status.gids,
            namespaces,
        })
    }
}

/// Reads a whole file of at most `limit` bytes, relative to `dir`.
pub fn read_bounded(dir: impl AsFd, file: &'static str, limit: usize) -> Result<Vec<u8>, ReadError> {
    let fail = |errno| ReadError::from_errno(file, errno);
    let fd = openat(dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()).map_err(fail)?;
    let mut bytes = vec![0u8; 2048.min(limit + 1)];
    let mut filled = 0;
    loop {
        match nix::unistd::read(&fd, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(fail(errno)),
        }
        if filled > limit {
            return Err(ReadError::TooLong { file, limit });
        }
        if filled == bytes.len() {
            bytes.resize((filled * 2).min(limit + 1), 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
