//! Why a store is not opened, and what an error of SQLite means for those who wait.

use rusqlite::{Error, ErrorCode, ffi};
use server_core::ports::{CommitError, ReadError};
use std::path::PathBuf;

/// Why a store was not opened. Nothing was changed in the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("SQLite {found} is linked, {needed} or newer is needed: rebuild with the bundled one")]
    SqliteTooOld { found: i32, needed: i32 },
    #[error(
        "{path} lies on a network file system ({kind}), whose locks and syncs cannot be relied on: use a local disk"
    )]
    NetworkFileSystem { path: PathBuf, kind: String },
    #[error("{path} is open in another server{}: stop it first", pid.as_ref().map(|p| format!(" (process {p})")).unwrap_or_default())]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("the folder {path} can be written by everyone: take that right away (chmod o-w)")]
    OpenFolder { path: PathBuf },
    #[error("{path} is not a store of this program ({why}); name another file, or move this one away to begin anew")]
    NotAStore { path: PathBuf, why: &'static str },
    #[error(
        "{path} was written by a newer version (schema {found}, this program knows up to {known}): use that version"
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("{path} is not there; a server makes its store when it starts")]
    NoStore { path: PathBuf },
    #[error(
        "{path} was written by an older version (schema {found}, this program's is {known}): `errand store migrate` brings it up \
         to date"
    )]
    OlderSchema { path: PathBuf, found: i64, known: i64 },
    #[error("{path} belongs to the trust domain `{store}`, not `{asked}`: one store serves one trust domain")]
    WrongTrustDomain { path: PathBuf, store: String, asked: String },
    #[error("{path} {}", if *.store_is_dev {
        "was made by `errand dev`, whose keys were never meant to be trusted: a server needs a store of its own"
    } else {
        "is a server's store: `errand dev` does not open it"
    })]
    DevStamp { path: PathBuf, store_is_dev: bool },
    #[error("{path} cannot be written: check its owner and mode")]
    ReadOnly { path: PathBuf },
    #[error(
        "{path} was in use when it was last written and its write-ahead log ({path}-wal) is gone: commits may be lost. Put the log \
         back, or go on from this state with --accept-rollback"
    )]
    LogMissing { path: PathBuf },
    #[error("{path} is damaged: {what}. Restore a backup; nothing was changed")]
    Damaged { path: PathBuf, what: String },
    #[error("{path}: {problem}")]
    Unreadable { path: PathBuf, problem: String },
}

/// What an error of SQLite means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No space; heals when there is some.
    Full,
    /// Nothing was written; may work the next time.
    Passing(String),
    /// A row contradicts a constraint: only the unit that wrote it is at fault.
    Contradiction(String),
    /// The disk or the file can no longer be believed.
    Fatal(String),
}

/// Sorts an error of SQLite.
pub fn fault(error: &Error) -> Fault {
    let text = error.to_string();
    // The shared-memory index could not be extended: the disk is full, though SQLite calls it an I/O error.
    if error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
        return Fault::Full;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Full,
        Some(ErrorCode::ConstraintViolation) => Fault::Contradiction(text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Fault::Passing("another process holds it; close other programs that have it open".into())
        }
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::InternalMalfunction
            | ErrorCode::FileLockingProtocolFailed,
        ) => Fault::Fatal(text),
        _ => Fault::Passing(text),
    }
}

impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::Full,
            Fault::Passing(why) | Fault::Fatal(why) => Self::Unavailable(why),
            Fault::Contradiction(why) => Self::Unavailable(format!("a write contradicts what is stored: {why}")),
        }
    }
}

/// For `map_err` on the reading side.
pub fn unreadable(error: Error) -> ReadError {
    ReadError::Unavailable(error.to_string())
}
