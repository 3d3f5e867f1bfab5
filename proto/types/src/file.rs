//! Reading a file that somebody named in a configuration: a regular file, of bounded size, never waited for.
//!
//! Decides what is read at all, not who may read it: secrets have rules of their own where they are used.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Why a named file was not read. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("is not text in UTF-8")]
    NotText,
}

/// The whole of a regular file of at most `limit` bytes. What is looked at is what was opened, and opening a FIFO waits
/// for nobody.
pub fn read_regular(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(FileError::NotAFile);
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    file.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(FileError::TooLarge { limit }) } else { Ok(bytes) }
}

/// The same, as text.
pub fn read_text(path: &Path, limit: usize) -> Result<String, FileError> {
    String::from_utf8(read_regular(path, limit)?).map_err(|_| FileError::NotText)
}
