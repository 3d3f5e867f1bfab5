//! Where a socket is put: never through a symlink, never in a directory where another could exchange it, never over one
//! that somebody listens on.

use crate::config::MAX_SOCKET_PATH;
use std::{
    fs::{DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

/// Why no socket was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketPathError {
    #[error("{path}: a socket's path is absolute and has at most {MAX_SOCKET_PATH} bytes")]
    Path { path: String },
    #[error("{path}: cannot {doing}: {why}")]
    Io { path: String, doing: &'static str, why: String },
    #[error("{path} is a symbolic link; name the place itself")]
    Symlink { path: String },
    #[error(
        "{path} is writable by everybody and not sticky: another user could replace the socket; run `chmod o-w {path}`"
    )]
    WritableDirectory { path: String },
    #[error(
        "{path} belongs to uid {owner}, who could replace the socket; use a directory of the agent's user or of root"
    )]
    DirectoryOwner { path: String, owner: u32 },
    #[error("{path} is there and is not a socket; move it away or choose another path")]
    NotASocket { path: String },
    #[error("{path}: another process listens on it; stop it or choose another path")]
    InUse { path: String },
}

impl SocketPathError {
    pub fn io(path: &Path, doing: &'static str, e: &io::Error) -> Self {
        Self::Io { path: shown(path), doing, why: e.to_string() }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A path that a socket may be bound to now.
pub struct Reserved {
    path: PathBuf,
}

/// A bound socket's file. Removed when dropped, if it is still the one that was bound.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    inode: (u64, u64),
}

/// Checks the path, makes its directory (0755) when it is not there, and removes a socket that nobody listens on.
pub fn reserve(path: &Path) -> Result<Reserved, SocketPathError> {
    let parent = path.parent().filter(|_| path.is_absolute() && path.as_os_str().len() <= MAX_SOCKET_PATH);
    let parent = parent.ok_or_else(|| SocketPathError::Path { path: shown(path) })?;
    let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
    made.map_err(|e| SocketPathError::io(parent, "create", &e))?;
    check_directory(parent)?;
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(SocketPathError::io(path, "read", &e)),
        Ok(meta) if meta.is_symlink() => return Err(SocketPathError::Symlink { path: shown(path) }),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketPathError::NotASocket { path: shown(path) }),
        Ok(_) => remove_stale(path)?,
    }
    Ok(Reserved { path: path.into() })
}

fn check_directory(dir: &Path) -> Result<(), SocketPathError> {
    let meta = std::fs::symlink_metadata(dir).map_err(|e| SocketPathError::io(dir, "read", &e))?;
    if meta.is_symlink() {
        return Err(SocketPathError::Symlink { path: shown(dir) });
    }
    let is_open = meta.mode() & 0o002 != 0;
    let is_sticky = meta.mode() & 0o1000 != 0;
    if is_open && !is_sticky {
        return Err(SocketPathError::WritableDirectory { path: shown(dir) });
    }
    let own = nix::unistd::geteuid().as_raw();
    if meta.uid() != own && meta.uid() != 0 {
        return Err(SocketPathError::DirectoryOwner { path: shown(dir), owner: meta.uid() });
    }
    Ok(())
}

/// Only a refused connection proves that nobody listens.
fn remove_stale(path: &Path) -> Result<(), SocketPathError> {
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| SocketPathError::io(path, "remove", &e))
        }
        _ => Err(SocketPathError::InUse { path: shown(path) }),
    }
}

impl Reserved {
    /// After binding: gives the file its mode and remembers which file it is.
    pub fn bound(self, mode: u32) -> Result<Bound, SocketPathError> {
        let path = self.path.as_path();
        let fail = |doing| move |e: io::Error| SocketPathError::io(path, doing, &e);
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(fail("set the mode of"))?;
        let meta = std::fs::symlink_metadata(path).map_err(fail("read"))?;
        let inode = (meta.dev(), meta.ino());
        Ok(Bound { path: self.path, inode })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another agent may have taken the path meanwhile; its socket stays.
        let same = std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.inode);
        if same {
            _ = std::fs::remove_file(&self.path);
        }
    }
}
