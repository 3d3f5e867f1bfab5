//! The agent's data directory: what survives a restart, each file replaced as a whole.
//!
//! A file is written beside its name, synced, renamed over it, and the directory synced: whatever is killed when, a
//! reader finds the old content or the new, never a part. One agent at a time holds a directory.

mod documents;

pub use documents::{IdentityDoc, JournalDoc, KeyedChain, PendingEnd, PinnedDoc, TaskDoc, TasksDoc};

use nix::fcntl::{Flock, FlockArg};
use proto_types::id::excerpt;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Largest file read, bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What went wrong with the data directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("{path}: cannot {doing}: {why}")]
    Io { path: String, doing: &'static str, why: String },
    #[error("{path} is open to others (mode {mode:o}); it holds private keys: run `chmod 700 {path}`")]
    Open { path: String, mode: u32 },
    #[error("{path} belongs to uid {owner}; give it to the user that runs the agent")]
    Owner { path: String, owner: u32 },
    #[error("{path} is in use by another agent; stop it, or choose another `data_dir`")]
    Busy { path: String },
    #[error("{path} is not what an agent wrote: {why}; move it away to start anew")]
    Corrupt { path: String, why: String },
}

fn io_error(path: &Path, doing: &'static str, e: &io::Error) -> DiskError {
    DiskError::Io { path: path.display().to_string(), doing, why: e.to_string() }
}

/// An open, locked data directory.
pub struct DataDir {
    path: PathBuf,
    // Held as long as the directory is in use; the kernel lets go of it whatever way the process ends.
    lock: Mutex<Option<Flock<File>>>,
}

impl DataDir {
    /// Opens the directory, makes it (0700) when it is not there, and locks it.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| io_error(path, "create", &e))?;
        let meta = std::fs::symlink_metadata(path).map_err(|e| io_error(path, "read", &e))?;
        let shown = path.display().to_string();
        if !meta.is_dir() {
            let why = "it is not a directory".into();
            return Err(DiskError::Io { path: shown, doing: "use", why });
        }
        if meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(DiskError::Owner { path: shown, owner: meta.uid() });
        }
        if meta.mode() & 0o077 != 0 {
            return Err(DiskError::Open { path: shown, mode: meta.mode() & 0o7777 });
        }
        let lock = path.join("agent.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let file = file.map_err(|e| io_error(&lock, "open", &e))?;
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| DiskError::Busy { path: shown })?;
        let dir = Self { path: path.into(), lock: Mutex::new(Some(held)) };
        dir.sweep()?;
        Ok(dir)
    }

    /// Removes what a write that never came to its end left beside the files: it may hold a key.
    fn sweep(&self) -> Result<(), DiskError> {
        let entries = std::fs::read_dir(&self.path).map_err(|e| io_error(&self.path, "read", &e))?;
        for entry in entries {
            let path = entry.map_err(|e| io_error(&self.path, "read", &e))?.path();
            if path.extension().is_some_and(|e| e == "new") {
                std::fs::remove_file(&path).map_err(|e| io_error(&path, "remove", &e))?;
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the directory: nothing is written to it any more, whoever still holds this value.
    pub fn release(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Replaces `name` by the JSON of `value`. Blocking; mode 0600.
    pub fn write<T: Serialize>(&self, name: &'static str, value: &T) -> Result<(), DiskError> {
        let path = self.path.join(name);
        // For the whole of it: the next holder must not find a write of this one under way.
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            let why = "the agent has stopped".into();
            return Err(DiskError::Io { path: path.display().to_string(), doing: "write", why });
        }
        let bytes = serde_json::to_vec(value).map_err(|e| corrupt(&path, &e))?;
        let bytes = proto_types::Secret::new(bytes);
        let temp = self.path.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temp)
            .map_err(|e| io_error(&temp, "open", &e))?;
        file.write_all(bytes.expose()).map_err(|e| io_error(&temp, "write", &e))?;
        file.sync_all().map_err(|e| io_error(&temp, "sync", &e))?;
        std::fs::rename(&temp, &path).map_err(|e| io_error(&path, "replace", &e))?;
        self.sync()
    }

    /// Reads `name`; `None` when it is not there. Blocking.
    pub fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, DiskError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error(&path, "open", &e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| io_error(&path, "read", &e))?;
        let bytes = proto_types::Secret::new(bytes);
        serde_json::from_slice(bytes.expose()).map(Some).map_err(|e| corrupt(&path, &e))
    }

    /// Removes `name`, if it is there. Blocking.
    pub fn remove(&self, name: &'static str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => self.sync(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(io_error(&path, "remove", &e)),
        }
    }

    fn sync(&self) -> Result<(), DiskError> {
        let synced = File::open(&self.path).and_then(|dir| dir.sync_all());
        synced.map_err(|e| io_error(&self.path, "sync", &e))
    }
}

/// Names the place and the kind of the fault; a JSON error's own text could quote a key.
fn corrupt(path: &Path, e: &serde_json::Error) -> DiskError {
    let why = excerpt(&format!("{:?} error at line {} column {}", e.classify(), e.line(), e.column()));
    DiskError::Corrupt { path: path.display().to_string(), why }
}

/// Serde for bytes as base64.
pub mod base64 {
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        // The error never quotes its input: it may be a key.
        STANDARD.decode(String::deserialize(d)?).map_err(|_| D::Error::custom("not base64"))
    }
}

/// Serde for a list of byte strings as base64.
pub mod base64_list {
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(list: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(list.iter().map(|b| STANDARD.encode(b)))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<String>::deserialize(d)?;
        list.iter().map(|t| STANDARD.decode(t).map_err(|_| D::Error::custom("not base64"))).collect()
    }
}
