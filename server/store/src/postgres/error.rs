//! Why a database is not opened as a store, and what an error of PostgreSQL means for those who wait.

use proto_types::id::excerpt;
use server_core::ports::{CommitError, ReadError};
use sqlx::Error;

/// Why a database was not opened as a store. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("{at}: {why}")]
    Unreachable { at: String, why: String },
    #[error("{at} is PostgreSQL {found}; {needed} or newer is needed")]
    TooOld { at: String, found: i32, needed: i32 },
    #[error(
        "{at} answers before a commit is on disk (synchronous_commit = off): what was acknowledged could be lost. Set it to on"
    )]
    Asynchronous { at: String },
    #[error("{at} was written by a newer version (schema {found}, this program knows up to {known}): use that version")]
    NewerSchema { at: String, found: i64, known: i64 },
    #[error("{at} holds no store; a server makes one when it starts")]
    NoStore { at: String },
    #[error(
        "{at} was written by an older version (schema {found}, this program's is {known}): `errand store migrate` brings it up to date"
    )]
    OlderSchema { at: String, found: i64, known: i64 },
    #[error("{at} belongs to the trust domain `{store}`, not `{asked}`: one store serves one trust domain")]
    WrongTrustDomain { at: String, store: String, asked: String },
    #[error("{at} {}", if *.store_is_dev {
        "was made by `errand dev`, whose keys were never meant to be trusted: a server needs a store of its own"
    } else {
        "is a server's store: `errand dev` does not open it"
    })]
    DevStamp { at: String, store_is_dev: bool },
    #[error("{at} holds half a copy: go on with `errand store copy`, or drop the schema `errand` there")]
    Copying { at: String },
    #[error(
        "{at} is not as it was when it was used last: {why}. A standby took over that lacked the newest commits, a backup was \
         put in, or it is a copy. Look whether one of your database servers still has them; `errand store reconcile` says what \
         is missing. To go on from this state, start once with --accept-rollback"
    )]
    WentBack { at: String, why: String },
    #[error("{at} is damaged: {what}. Restore a backup; nothing was changed")]
    Damaged { at: String, what: String },
    #[error("{at}: {problem}")]
    Refused { at: String, problem: String },
}

/// What an error of PostgreSQL means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No space; heals when there is some.
    Full,
    /// Nothing was written; may work the next time.
    Passing(String),
    /// A row contradicts a constraint: only the unit that wrote it is at fault.
    Contradiction(String),
}

/// Sorts an error of the driver. The connection it came from is closed unless it is a contradiction.
pub fn fault(error: &Error) -> Fault {
    let Error::Database(told) = error else { return Fault::Passing(excerpt(&error.to_string())) };
    let code = told.code().unwrap_or_default();
    let text = excerpt(told.message());
    match code.as_ref() {
        // disk_full
        "53100" => Fault::Full,
        // data exceptions and integrity constraint violations, whole classes
        code if code.starts_with("22") || code.starts_with("23") => Fault::Contradiction(text),
        // read_only_sql_transaction
        "25006" => Fault::Passing("it is a standby, which takes no writes".into()),
        code => Fault::Passing(format!("{text} (SQLSTATE {code})")),
    }
}

impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::Full,
            Fault::Passing(why) => Self::Unavailable(why),
            Fault::Contradiction(why) => Self::Unavailable(format!("a write contradicts what is stored: {why}")),
        }
    }
}

/// For `map_err` on the reading side.
pub fn unreadable(error: Error) -> ReadError {
    ReadError::Unavailable(excerpt(&error.to_string()))
}

/// For chores.
pub fn unwritten(error: Error) -> CommitError {
    fault(&error).into()
}
