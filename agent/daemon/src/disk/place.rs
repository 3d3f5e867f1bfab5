//! Whether a directory is one that an agent may keep its keys in, and whether a file in it is still what was written.

use super::{DiskError, io_error};
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::{AccessFlags, access},
};
use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

const LOCK: &str = "agent.lock";

/// One file, as it was at one moment: replaced or changed, it has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of what has this name now.
    pub fn of(path: &Path) -> Result<Option<Self>, DiskError> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(meta.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error(path, "read", &e)),
        }
    }
}

impl From<Metadata> for Stamp {
    /// The time of the last change of the inode: of its bytes, owner or mode.
    fn from(meta: Metadata) -> Self {
        let changed = (meta.ctime(), meta.ctime_nsec());
        Self { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed }
    }
}

/// That `dir` is there, is this user's and nobody else's, and can be written.
pub fn check(dir: &Path) -> Result<(), DiskError> {
    let path = dir.display().to_string();
    let meta = match std::fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(DiskError::Gone { path }),
        Err(e) => return Err(io_error(dir, "read", &e)),
    };
    if !meta.is_dir() {
        return Err(DiskError::Io { path, doing: "use", why: "it is not a directory".into() });
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(DiskError::Owner { path, owner: meta.uid() });
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DiskError::Open { path, mode });
    }
    // Root may write all the same, but whoever took the right away meant it.
    if mode & 0o700 != 0o700 {
        return Err(DiskError::ReadOnly { path, mode });
    }
    access(dir, AccessFlags::W_OK).map_err(|e| io_error(dir, "write to", &e.into()))
}

/// Takes the directory's lock.
pub fn lock(dir: &Path) -> Result<Flock<File>, DiskError> {
    let lock = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
    let file = file.map_err(|e| io_error(&lock, "open", &e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| DiskError::Busy { path: dir.display().to_string() })
}

/// Whether `held` is the lock of this directory, and not of one that was here before.
pub fn is_lock_of(held: &Flock<File>, dir: &Path) -> bool {
    let one = |meta: Metadata| (meta.dev(), meta.ino());
    let (ours, there) = (held.metadata().map(one), std::fs::symlink_metadata(dir.join(LOCK)).map(one));
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}
