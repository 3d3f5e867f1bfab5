//! What this server saw of the journal last, kept on its own disk: a database that went back is found out although nobody
//! who followed it runs any more.
//!
//! Written down each second at most and at the end, beside the commits and not before them: what was acknowledged in the
//! last moment before a server and its database died together is remembered by agents and sinks only.

use serde::{Deserialize, Serialize};
use server_core::{journal::Hash, ports::StoreMeta};
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

const FORMAT: u32 = 1;
/// More than this is none of ours, bytes.
const MAX: u64 = 4096;

/// A place in the journal of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    version: u32,
    pub store_id: String,
    pub epoch: u64,
    /// Records there were.
    pub size: u64,
    /// The leaf of the last of them.
    pub leaf: Hash,
}

impl Seen {
    pub fn new(meta: &StoreMeta, size: u64, leaf: Hash) -> Self {
        Self { version: FORMAT, store_id: meta.store_id.clone(), epoch: meta.epoch, size, leaf }
    }

    /// Where its leaf stands.
    pub fn last(&self) -> u64 {
        self.size.saturating_sub(1)
    }

    /// Why a store is not the one that was seen, or has gone back: it has `size` records, kept from `start` on, and `leaf`
    /// where this one had its last.
    pub fn differs(&self, meta: &StoreMeta, (start, size): (u64, u64), leaf: Option<Hash>) -> Option<String> {
        if meta.store_id != self.store_id {
            return Some(format!(
                "this server used the store {} before, and this one is {}",
                self.store_id, meta.store_id
            ));
        }
        // A higher epoch: somebody has accepted that it went back.
        if meta.epoch > self.epoch {
            return None;
        }
        if meta.epoch < self.epoch {
            return Some(format!("it is at epoch {}, and was at {}", meta.epoch, self.epoch));
        }
        if size < self.size {
            return Some(format!("it has {size} records, and had {}", self.size));
        }
        let same = leaf == Some(self.leaf) || self.last() < start;
        (!same).then(|| format!("its record at position {} is not the one that was committed", self.last()))
    }
}

/// The file in which it is kept.
#[derive(Clone, Debug)]
pub struct Memory(PathBuf);

impl Memory {
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// What is remembered. A file that cannot be read is an error: forgetting is for an operator to decide.
    pub fn load(&self) -> Result<Option<Seen>, String> {
        let fail = |why: String| {
            format!("{} cannot be read ({why}); remove it if what it remembers may be forgotten", self.0.display())
        };
        let text = match File::open(&self.0) {
            Ok(file) => {
                let length = file.metadata().map_err(|e| fail(e.to_string()))?.len();
                if length > MAX {
                    return Err(fail("it is too large".into()));
                }
                fs::read_to_string(&self.0).map_err(|e| fail(e.to_string()))?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e.to_string())),
        };
        let seen: Seen = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
        if seen.version == FORMAT { Ok(Some(seen)) } else { Err(fail(format!("it has format {}", seen.version))) }
    }

    /// Replaces what is remembered, in one step.
    pub fn keep(&self, seen: &Seen) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(serde_json::to_string(seen).map_err(io::Error::other)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.0)?;
        File::open(folder)?.sync_all()
    }
}
