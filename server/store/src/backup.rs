//! A backup of an embedded store, taken while a server runs on it, and the way back.
//!
//! Decides that a backup is whole before it is called one. A store that was put back lacks what came after: it says so
//! itself, and opens as a new epoch only when somebody accepts that.

use crate::{
    OpenError,
    sqlite::{archive, beside, pruned},
};
use proto_types::Position;
use rusqlite::{Connection, OpenFlags};
use server_core::{
    journal::{Verdict, Verifier},
    ports::ReadError,
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// What was backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub records: u64,
    /// Of the journal in it.
    pub root: [u8; 32],
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} cannot be read: {why}")]
    Read { path: PathBuf, why: String },
    #[error("{path} cannot be written: {why}")]
    Write { path: PathBuf, why: String },
    #[error("{path} is there already: name another file")]
    Exists { path: PathBuf },
    #[error("there is a store at {path}: move it away first, with its -wal and -shm")]
    Occupied { path: PathBuf },
    #[error("{path} is no whole store: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Writes the store at `from`, as it is in one moment, to the new file `to`, readable by its owner alone, and verifies it
/// there. Commits go on meanwhile.
pub fn backup(from: &Path, to: &Path) -> Result<Backup, BackupError> {
    let unread = |e: rusqlite::Error| BackupError::Read { path: from.into(), why: e.to_string() };
    let unwritten = |why: String| BackupError::Write { path: to.into(), why };
    let conn = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(unread)?;
    conn.busy_timeout(Duration::from_secs(10)).map_err(unread)?;
    // An empty file is taken as it is, with its mode.
    match File::options().write(true).create_new(true).mode(0o600).open(to) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(BackupError::Exists { path: to.into() }),
        Err(e) => return Err(unwritten(e.kind().to_string())),
    }
    let written = || -> Result<Backup, BackupError> {
        let name = to.to_str().ok_or_else(|| unwritten("its name is not UTF-8".into()))?;
        conn.execute("VACUUM INTO ?1", [name]).map_err(|e| unwritten(e.to_string()))?;
        File::open(to).and_then(|file| file.sync_all()).map_err(|e| unwritten(e.kind().to_string()))?;
        verified(to)
    };
    // Half a backup is none.
    written().inspect_err(|_| drop(fs::remove_file(to)))
}

/// Puts the backup `from` in the place of a store that is not there any more. What is done next is to open it once,
/// accepting that it lacks what came after.
pub fn restore(from: &Path, to: &Path) -> Result<Backup, BackupError> {
    let occupied = [to.to_path_buf(), beside(to, "-wal"), beside(to, "-shm")];
    if let Some(path) = occupied.into_iter().find(|path| path.exists()) {
        return Err(BackupError::Occupied { path });
    }
    let backup = verified(from)?;
    let unwritten = |e: io::Error| BackupError::Write { path: to.into(), why: e.kind().to_string() };
    let new = beside(to, ".restored");
    let mut source =
        File::open(from).map_err(|e| BackupError::Read { path: from.into(), why: e.kind().to_string() })?;
    let mut target =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(unwritten)?;
    io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(unwritten)?;
    // Also one that was taken of a store at rest: going back in time is never done by itself.
    let marked = Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|conn| conn.execute("UPDATE meta SET in_use = 1", []).map(|_| conn))
        .and_then(|conn| conn.close().map_err(|(_, e)| e));
    marked.map_err(|e| BackupError::Write { path: to.into(), why: e.to_string() })?;
    fs::rename(&new, to).map_err(unwritten)?;
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritten)?;
    Ok(backup)
}

/// Every record that is kept, rehashed, against the roots that were written down.
fn verified(path: &Path) -> Result<Backup, BackupError> {
    let damaged = |why: String| BackupError::Damaged { path: path.into(), why };
    let unread = |e: ReadError| damaged(e.to_string());
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|e| BackupError::Read { path: path.into(), why: e.to_string() })?;
    let sound: String =
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| damaged(e.to_string()))?;
    if sound != "ok" {
        return Err(damaged(sound));
    }
    let size: u64 = conn
        .query_row("SELECT size FROM journal_head", [], |row| row.get(0))
        .map_err(|e| damaged(format!("it is no store ({e})")))?;
    let before = pruned::tree(&conn).map_err(unread)?;
    let mut from = before.size();
    let mut roots = archive::roots(&conn, 0, 4096).map_err(unread)?;
    roots.extend(archive::newest_root(&conn).map_err(unread)?);
    let mut verifier = Verifier::behind(before, roots);
    while from < size {
        let page = archive::stored(&conn, Position(from), 4096).map_err(unread)?;
        let Some(last) = page.last() else { break };
        from = last.position.0 + 1;
        if !verifier.feed_all(&page) {
            break;
        }
    }
    match verifier.finish() {
        Verdict::Ok { size: found, root } if found == size => Ok(Backup { records: size, root }),
        other => Err(damaged(format!("{other:?}"))),
    }
}
