//! SHA-256 of opened files: bounded, cached by what the file is, computed once however many ask, off the async threads.
//!
//! Never opens a path. Refuses what is not a regular file, what is too large, and what a user's own process serves (FUSE):
//! such a file can answer every reading differently, or never.

use crate::proc::{FileId, ReadError};
use agent_core::cache::{Expiring, Lookup};
use aws_lc_rs::digest::{Context, SHA256};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        stat::Mode,
        statfs::{FUSE_SUPER_MAGIC, fstatfs},
        uio::pread,
    },
};
use proto_types::{Clock, Timestamp};
use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{OnceCell, Semaphore};

/// Largest file that is hashed unless configured otherwise.
pub const DEFAULT_LIMIT: u64 = 512 << 20;
const CACHED: usize = 4096;
const CACHED_FOR: Duration = Duration::from_secs(3600);
/// A file changed this recently may change again within one tick of its timestamps, unseen.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 4;

/// Why a file has no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    #[error("not a regular file")]
    NotRegular,
    #[error("{size} bytes are more than the {limit} that are hashed; raise `max_hash_size`")]
    TooLarge { size: u64, limit: u64 },
    #[error("it lies on a FUSE file system, whose contents are whatever its process answers")]
    Fuse,
    #[error("it changed while it was read")]
    Changed,
    #[error("it could not be read within {} seconds", PATIENCE.as_secs())]
    TimedOut,
    #[error("cannot read it: {0}")]
    Io(Errno),
    #[error(transparent)]
    Stat(#[from] ReadError),
}

/// A hash and the file it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    pub id: FileId,
    /// SHA-256, lowercase hex.
    pub sha256: Arc<str>,
}

type Cell = Arc<OnceCell<Arc<str>>>;

/// Hashes files, and remembers.
pub struct Hasher {
    clock: Arc<dyn Clock>,
    limit: u64,
    cells: Mutex<Expiring<FileId, Cell>>,
    readers: Arc<Semaphore>,
}

impl Hasher {
    pub fn new(clock: Arc<dyn Clock>, limit: u64) -> Self {
        let cells = Mutex::new(Expiring::new(CACHED));
        Self { clock, limit, cells, readers: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// What is already known of the file `id`.
    pub fn known(&self, id: &FileId) -> Option<Arc<str>> {
        match self.cells().get(id, self.clock.now()) {
            Lookup::Fresh(cell) | Lookup::Aging(cell) => cell.get().cloned(),
            Lookup::Missing => None,
        }
    }

    /// Hashes the contents of `file`, which may be opened with `O_PATH`. Its offset is neither used nor moved.
    pub async fn hash(&self, file: OwnedFd) -> Result<Hashed, HashError> {
        tokio::select! {
            done = self.hash_patiently(file) => done,
            () = self.clock.sleep(PATIENCE) => Err(HashError::TimedOut),
        }
    }

    async fn hash_patiently(&self, file: OwnedFd) -> Result<Hashed, HashError> {
        let limit = self.limit;
        let (file, id) = blocking(move || inspect(&file, limit).map(|id| (file, id))).await?;
        let cell = self.cell(id);
        let readers = self.readers.clone();
        let hashed = cell.get_or_try_init(|| async {
            // The permit goes with the reading thread: one that hangs keeps its place, and others are bounded by it.
            let permit = readers.acquire_owned().await.map_err(|_| HashError::TimedOut)?;
            blocking(move || {
                let _permit = permit;
                digest(&file, &id)
            })
            .await
        });
        let sha256 = hashed.await?.clone();
        if !is_settled(&id, self.clock.now()) {
            self.cells().remove(&id);
        }
        Ok(Hashed { id, sha256 })
    }

    fn cell(&self, id: FileId) -> Cell {
        let now = self.clock.now();
        let mut cells = self.cells();
        match cells.get(&id, now) {
            Lookup::Fresh(cell) | Lookup::Aging(cell) => cell,
            Lookup::Missing => {
                let cell = Cell::default();
                cells.insert(id, cell.clone(), now, now.plus(CACHED_FOR), 0.5);
                cell
            }
        }
    }

    fn cells(&self) -> std::sync::MutexGuard<'_, Expiring<FileId, Cell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_settled(id: &FileId, now: Timestamp) -> bool {
    Timestamp::from_secs(id.ctime.0.saturating_add(1)).plus(SETTLED_AFTER) <= now
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
) -> Result<T, HashError> {
    // Joining fails only when the runtime is going down.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(HashError::TimedOut))
}

fn inspect(file: &OwnedFd, limit: u64) -> Result<FileId, HashError> {
    if fstatfs(file).map_err(HashError::Io)?.filesystem_type() == FUSE_SUPER_MAGIC {
        return Err(HashError::Fuse);
    }
    let (id, mode) = FileId::at(file, "")?;
    if u32::from(mode) & libc_mode::FORMAT != libc_mode::REGULAR {
        return Err(HashError::NotRegular);
    }
    if id.size > limit { Err(HashError::TooLarge { size: id.size, limit }) } else { Ok(id) }
}

/// The file-type bits of a mode.
mod libc_mode {
    pub const FORMAT: u32 = nix::libc::S_IFMT;
    pub const REGULAR: u32 = nix::libc::S_IFREG;
}

/// Reads exactly the file that `id` describes; anything else is [`HashError::Changed`].
fn digest(file: &OwnedFd, id: &FileId) -> Result<Arc<str>, HashError> {
    // The magic link leads to the opened file itself, whatever has its name now.
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let file = open(own.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty())
        .map_err(HashError::Io)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0u8; 128 * 1024];
    let mut read = 0u64;
    loop {
        let n = match pread(&file, &mut buffer, i64::try_from(read).unwrap_or(i64::MAX)) {
            Ok(0) => break,
            Ok(n) => n,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(HashError::Io(errno)),
        };
        read += n as u64;
        if read > id.size {
            return Err(HashError::Changed);
        }
        context.update(&buffer[..n]);
    }
    let (after, _) = FileId::at(&file, "")?;
    if read != id.size || after != *id {
        return Err(HashError::Changed);
    }
    Ok(hex::encode(context.finish()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_is_not_the_one_looked_at_has_no_hash() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"#!/bin/sh\n").unwrap();
        let fd = OwnedFd::from(file.try_clone().unwrap());
        let id = inspect(&fd, 100).unwrap();
        let hash = digest(&fd, &id).unwrap();
        assert_eq!(&*hash, "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf");
        file.write_all(b"rm").unwrap();
        assert_eq!(digest(&fd, &id), Err(HashError::Changed), "it grew");
        file.set_len(3).unwrap();
        assert_eq!(digest(&fd, &id), Err(HashError::Changed), "it shrank");
        assert!(digest(&fd, &inspect(&fd, 100).unwrap()).is_ok());
    }
}
