//! The program a process runs: its path, and the hash of the very file.
//!
//! The path is the kernel's. It is left out when the file has been deleted, and when the process lives in a mount
//! namespace of its own in which that path is another file than here: anybody may make such a namespace and mount
//! anything at any path in it.

use super::{KIND, gone_or};
use crate::{
    hash::{HashError, Hasher},
    proc::{FileId, Proc, ReadError},
};
use agent_core::{AttestError, Caller, CallerError};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat, readlinkat},
    sys::stat::Mode,
};
use std::{os::fd::AsFd, path::PathBuf, sync::Arc};

#[derive(Default)]
pub(super) struct Program {
    pub path: Option<String>,
    pub sha256: Option<Arc<str>>,
}

pub(super) struct Programs {
    hasher: Arc<Hasher>,
}

impl Programs {
    pub fn new(hasher: Arc<Hasher>) -> Self {
        Self { hasher }
    }

    pub async fn of(&self, caller: &dyn Caller) -> Result<Program, AttestError> {
        let proc = Proc(caller.proc_dir());
        let Some(id) = proc.exe().map_err(|why| gone_or(caller, "exe", &why))? else {
            return Ok(Program::default());
        };
        let path = path(proc, id).await;
        let sha256 = match self.hasher.known(&id) {
            Some(known) => Some(known),
            None => self.hash(caller, id).await?,
        };
        Ok(Program { path, sha256 })
    }

    async fn hash(&self, caller: &dyn Caller, id: FileId) -> Result<Option<Arc<str>>, AttestError> {
        // Opened as a place only: opening the contents may block, and is the hasher's to do.
        let file = match openat(caller.proc_dir(), "exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::EACCES | Errno::EPERM) => return Ok(None),
            Err(errno) => return Err(gone_or(caller, "exe", &ReadError::from_errno("exe", errno))),
        };
        match self.hasher.hash(file).await {
            Ok(hashed) if hashed.id.is_same_file(&id) => Ok(Some(hashed.sha256)),
            Ok(_) => Err(CallerError::Changed { pid: caller.pid(), what: "program" }.into()),
            Err(why @ (HashError::Changed | HashError::TimedOut)) => Err(AttestError::unreadable(KIND, "exe", &why)),
            Err(why) => {
                tracing::debug!(pid = caller.pid(), %why, "no sha256 selector");
                Ok(None)
            }
        }
    }
}

async fn path(proc: Proc<'_>, id: FileId) -> Option<String> {
    let path = PathBuf::from(readlinkat(proc.0, "exe").ok()?);
    let text = path.to_str()?.to_string();
    // A file may really be called so; then it goes without a path.
    if !path.is_absolute() || text.ends_with(" (deleted)") {
        return None;
    }
    if is_in_our_mounts(proc) {
        return Some(text);
    }
    let here = tokio::task::spawn_blocking(move || {
        let file = openat(AT_FDCWD, &path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        FileId::at(file.as_fd(), "").ok()
    });
    here.await.ok().flatten().filter(|(here, _)| here.is_same_file(&id)).map(|_| text)
}

fn is_in_our_mounts(proc: Proc<'_>) -> bool {
    let ours = nix::sys::stat::stat("/proc/thread-self/ns/mnt").map(|s| s.st_ino);
    matches!((proc.namespace("ns/mnt"), ours), (Ok(theirs), Ok(ours)) if theirs == ours)
}
