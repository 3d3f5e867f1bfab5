//! The agent's data directory: what survives a restart, each file replaced as a whole.
//!
//! A file is written beside its name, synced, renamed over it, and the directory synced: whatever is killed when, a
//! reader finds the old content or the new, never a part. One agent at a time holds a directory. What is to be in it is
//! known here too: what could not be written is owed, and what somebody put in its place is written again. There is no
//! other place: while the directory is not one to keep keys in, nothing is written.

mod documents;
pub mod keeper;
mod place;

pub use documents::{IdentityDoc, JournalDoc, KeyedChain, PendingEnd, PinnedDoc, TaskDoc, TasksDoc};

use arc_swap::ArcSwapOption;
use nix::fcntl::Flock;
use place::Stamp;
use proto_types::{Secret, id::excerpt};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Largest file read, bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What went wrong with the data directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("{path}: cannot {doing}: {why}")]
    Io { path: String, doing: &'static str, why: String },
    #[error("{path} is gone; put it back (mode 700, of the user that runs the agent), or stop the agent")]
    Gone { path: String },
    #[error("{path} is open to others (mode {mode:o}); it holds private keys: run `chmod 700 {path}`")]
    Open { path: String, mode: u32 },
    #[error("{path} cannot be written (mode {mode:o}): run `chmod 700 {path}`")]
    ReadOnly { path: String, mode: u32 },
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
    /// For the whole of a write: the next holder must not find a write of this one under way.
    held: Mutex<Held>,
    problem: ArcSwapOption<DiskError>,
}

struct Held {
    /// The kernel lets go of it whatever way the process ends.
    lock: Option<Flock<File>>,
    files: BTreeMap<&'static str, Content>,
}

/// What a file is to hold.
struct Content {
    /// `None`: it is not to be there.
    bytes: Option<Secret<Vec<u8>>>,
    /// What it was when it held that last.
    stamp: Option<Stamp>,
    /// It could not be written.
    owed: bool,
}

impl DataDir {
    /// Opens the directory, makes it (0700) when it is not there, and locks it.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| io_error(path, "create", &e))?;
        place::check(path)?;
        let held = Held { lock: Some(place::lock(path)?), files: BTreeMap::new() };
        let dir = Self { path: path.into(), held: Mutex::new(held), problem: ArcSwapOption::empty() };
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

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the directory: nothing is written to it any more, whoever still holds this value.
    pub fn release(&self) {
        self.held().lock = None;
    }

    /// What keeps it from being as it is to be, as far as is known.
    pub fn problem(&self) -> Option<Arc<DiskError>> {
        self.problem.load_full()
    }

    /// Replaces `name` by the JSON of `value`. When that fails it is as it was. Blocking; mode 0600.
    pub fn write<T: Serialize>(&self, name: &'static str, value: &T) -> Result<(), DiskError> {
        self.replace(name, Some(self.json(name, value)?), false)
    }

    /// The same; when that fails it is owed, and [`Self::mend`] writes it. Blocking.
    pub fn keep<T: Serialize>(&self, name: &'static str, value: &T) -> Result<(), DiskError> {
        self.replace(name, Some(self.json(name, value)?), true)
    }

    /// Removes `name`, if it is there; owed when that fails. Blocking.
    pub fn remove(&self, name: &'static str) -> Result<(), DiskError> {
        self.replace(name, None, true)
    }

    fn json<T: Serialize>(&self, name: &str, value: &T) -> Result<Secret<Vec<u8>>, DiskError> {
        serde_json::to_vec(value).map(Secret::new).map_err(|e| corrupt(&self.path.join(name), &e))
    }

    fn replace(&self, name: &'static str, bytes: Option<Secret<Vec<u8>>>, owed: bool) -> Result<(), DiskError> {
        let mut held = self.held();
        let done = held.claim(&self.path).and_then(|()| put(&self.path, name, bytes.as_ref()));
        match done {
            Ok(stamp) => {
                held.files.insert(name, Content { bytes, stamp, owed: false });
                Ok(())
            }
            Err(e) => {
                if owed {
                    held.files.insert(name, Content { bytes, stamp: None, owed });
                }
                self.problem.store(Some(Arc::new(e.clone())));
                Err(e)
            }
        }
    }

    /// Writes what is owed, and again what is not as it was left. Answers the files that somebody else had changed.
    /// Blocking.
    pub fn mend(&self) -> Result<Vec<&'static str>, DiskError> {
        let mended = self.held().mend(&self.path);
        self.problem.store(mended.as_ref().err().map(|e| Arc::new(e.clone())));
        mended
    }

    /// Reads `name`; `None` when it is not there. Blocking.
    pub fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, DiskError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error(&path, "open", &e)),
        };
        let stamp = file.metadata().map_err(|e| io_error(&path, "read", &e))?.into();
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| io_error(&path, "read", &e))?;
        let bytes = Secret::new(bytes);
        let value = serde_json::from_slice(bytes.expose()).map_err(|e| corrupt(&path, &e))?;
        self.held().files.insert(name, Content { bytes: Some(bytes), stamp: Some(stamp), owed: false });
        Ok(Some(value))
    }
}

impl Held {
    /// That the directory may be written, and is this agent's: one that was put in its place is locked anew.
    fn claim(&mut self, dir: &Path) -> Result<(), DiskError> {
        let Some(held) = &self.lock else {
            let why = "the agent has stopped".into();
            return Err(DiskError::Io { path: dir.display().to_string(), doing: "write", why });
        };
        place::check(dir)?;
        if !place::is_lock_of(held, dir) {
            self.lock = Some(place::lock(dir)?);
        }
        Ok(())
    }

    fn mend(&mut self, dir: &Path) -> Result<Vec<&'static str>, DiskError> {
        self.claim(dir)?;
        let mut changed = Vec::new();
        for (name, content) in &mut self.files {
            let is_as_left = Stamp::of(&dir.join(name))? == content.stamp;
            if is_as_left && !content.owed {
                continue;
            }
            content.stamp = put(dir, name, content.bytes.as_ref())?;
            if !std::mem::take(&mut content.owed) {
                changed.push(*name);
            }
        }
        Ok(changed)
    }
}

/// Puts `bytes` in the place of `name`, or takes it away. Answers what is there then.
fn put(dir: &Path, name: &str, bytes: Option<&Secret<Vec<u8>>>) -> Result<Option<Stamp>, DiskError> {
    let path = dir.join(name);
    let Some(bytes) = bytes else {
        return match std::fs::remove_file(&path) {
            Ok(()) => sync(dir).map(|()| None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error(&path, "remove", &e)),
        };
    };
    let temp = dir.join(format!("{name}.new"));
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
    sync(dir)?;
    Stamp::of(&path)
}

fn sync(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).and_then(|opened| opened.sync_all()).map_err(|e| io_error(dir, "sync", &e))
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
