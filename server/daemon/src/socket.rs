//! Binding the admin socket so that nobody can connect before its mode is right, and a live one is never taken over.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// Longest path of a unix socket, bytes.
const MAX_PATH: usize = 107;

/// Binds `path` with mode 0600. A stale socket is replaced; one that somebody listens on is an error.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let fail = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {what}", path.display()));
    if path.as_os_str().len() > MAX_PATH - 8 {
        return Err(fail("the path is longer than a socket's may be; choose a shorter directory"));
    }
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(fail("exists and is not a socket"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(fail("another server listens here; stop it first"));
        }
    }
    let parent = path.parent().ok_or_else(|| fail("has no directory"))?;
    std::fs::create_dir_all(parent)?;
    // Born where nobody else can reach it, moved into place with its mode set: at no moment is it open to others.
    let mut nursery = PathBuf::from(path);
    nursery.as_mut_os_string().push(".d");
    let born = nursery.join("s");
    let _ = std::fs::remove_file(&born);
    let _ = std::fs::remove_dir(&nursery);
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let listener = UnixListener::bind(&born)?;
    std::fs::set_permissions(&born, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&born, path)?;
    std::fs::remove_dir(&nursery)?;
    Ok(listener)
}
