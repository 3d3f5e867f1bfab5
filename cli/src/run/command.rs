//! Which file CMD is: found as a shell finds it, opened once, and the opened file is what is measured and executed, so
//! that nothing can be swapped in between.

use super::failure::{Failure, NOT_EXECUTABLE, NOT_FOUND};
use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, fstat, stat},
    unistd::{AccessFlags, access},
};
use std::{
    ffi::{OsStr, OsString},
    os::fd::OwnedFd,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// CMD, found and opened.
#[derive(Debug)]
pub struct Found {
    /// Close-on-exec. What is measured and executed.
    pub file: OwnedFd,
    /// The path it was found by.
    pub path: PathBuf,
    /// Executing it changes uid, gid or capabilities.
    pub privileged: bool,
}

impl Found {
    /// Whether the path still names the opened file: what a script's interpreter will read is what was measured.
    pub fn is_in_place(file: &OwnedFd, path: &Path) -> bool {
        let opened = fstat(file).map(|s| (s.st_dev, s.st_ino));
        let named = stat(path).map(|s| (s.st_dev, s.st_ino));
        matches!((opened, named), (Ok(a), Ok(b)) if a == b)
    }
}

/// Finds and opens `name`. With a slash in it, it is a path; otherwise the first executable file in `path_var`.
pub fn find(name: &OsStr, path_var: Option<OsString>) -> Result<Found, Failure> {
    if name.is_empty() {
        return Err(Failure::command(NOT_FOUND, "CMD is empty"));
    }
    if name.as_bytes().contains(&b'/') {
        return open_file(Path::new(name));
    }
    // What execvp(3) uses when there is no PATH.
    let path_var = path_var.unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut unusable = None;
    for folder in std::env::split_paths(&path_var) {
        // An empty element means the working directory.
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        match open_file(&folder.join(name)) {
            Ok(file) => return Ok(file),
            Err(failure) if failure.code == NOT_EXECUTABLE => unusable = unusable.or(Some(failure)),
            Err(_) => {}
        }
    }
    Err(unusable.unwrap_or_else(|| {
        Failure::command(NOT_FOUND, format!("{}: command not found", name.display()))
            .hint("give its path, or add its folder to PATH")
    }))
}

fn open_file(path: &Path) -> Result<Found, Failure> {
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::command(NOT_EXECUTABLE, format!("{} cannot be executed: {why}", path.display()))
    };
    access(path, AccessFlags::X_OK).map_err(|e| match e {
        nix::Error::ENOENT | nix::Error::ENOTDIR => {
            Failure::command(NOT_FOUND, format!("{}: no such file", path.display()))
        }
        other => unusable(&other.desc()),
    })?;
    // The agent measures the content: a file that may be executed and not read cannot be run as a task.
    let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
        .map_err(|e| unusable(&e.desc()))?;
    let mode = fstat(&file).map_err(|e| unusable(&e.desc()))?.st_mode;
    if mode & nix::libc::S_IFMT != nix::libc::S_IFREG {
        return Err(unusable(&"it is not a regular file"));
    }
    let capable = rustix::fs::fgetxattr(&file, c"security.capability", &mut [0u8; 0]).is_ok_and(|n| n > 0);
    let privileged = capable || mode & (nix::libc::S_ISUID | nix::libc::S_ISGID) != 0;
    Ok(Found { file, path: path.into(), privileged })
}
