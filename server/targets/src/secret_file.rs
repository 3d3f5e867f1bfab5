//! Files that hold secrets: which may be named, and how they are read.
//!
//! An applied target may name files under the secrets directory only; links are followed before that is decided, and
//! decided again at each read, so that a link swapped later gains nothing.

use proto_types::{
    Secret,
    file::{FileError as NotRead, read_regular},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Largest secret or certificate file read, bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Where Debian, Red Hat and Alpine keep the authorities that the system trusts.
pub(crate) const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("`{path}` cannot be read: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("`{path}` is not a regular file of at most 256 KiB")]
    NotAFile { path: PathBuf },
    #[error("`{path}` lies outside `{allowed}`, where an applied target's files must be")]
    Outside { path: PathBuf, allowed: PathBuf },
    #[error("`{path}` holds no text")]
    Empty { path: PathBuf },
}

/// The whole file, within `allowed` when that is set.
pub(crate) fn read(path: &Path, allowed: Option<&Path>) -> Result<Secret<Vec<u8>>, FileError> {
    let unreadable = |e: std::io::Error| FileError::Unreadable { path: path.into(), why: e.kind().to_string() };
    let real = fs::canonicalize(path).map_err(unreadable)?;
    if let Some(allowed) = allowed {
        let inside = fs::canonicalize(allowed).is_ok_and(|root| real.starts_with(root));
        if !inside {
            return Err(FileError::Outside { path: path.into(), allowed: allowed.into() });
        }
    }
    read_regular(&real, MAX_BYTES).map(Secret::new).map_err(|e| match e {
        NotRead::Unreadable(e) => unreadable(e),
        _ => FileError::NotAFile { path: path.into() },
    })
}

/// The file's text without its last line break.
pub(crate) fn read_line(path: &Path, allowed: Option<&Path>) -> Result<Secret<String>, FileError> {
    let bytes = read(path, allowed)?;
    let text = std::str::from_utf8(bytes.expose()).unwrap_or_default().trim_end_matches(['\n', '\r']);
    if text.is_empty() || text.contains('\0') {
        return Err(FileError::Empty { path: path.into() });
    }
    Ok(Secret::new(text.to_string()))
}
