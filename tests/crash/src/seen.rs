//! What a client saw, as JSON lines: written down by the one who saw it, before anything else is done with it.

use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// One thing a client knows for certain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Seen {
    /// The token endpoint answered 200: the secret itself is not written down. Without a name where the target has none.
    Credential { task: String, lease: String, name: String, role: String },
    /// An SVID or a token was answered; its serial or `jti`.
    Signed { kind: String, id: String },
    /// The end of the task was acknowledged.
    Ended { task: String },
}

/// The file it is written to.
pub struct SeenLog(Mutex<File>);

impl SeenLog {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(File::options().create(true).append(true).open(path)?)))
    }
    pub fn write(&self, seen: &Seen) -> io::Result<()> {
        let mut line = serde_json::to_vec(seen)?;
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

pub fn read(path: &Path) -> io::Result<Vec<Seen>> {
    let mut out = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        out.push(serde_json::from_str(&line?)?);
    }
    Ok(out)
}
