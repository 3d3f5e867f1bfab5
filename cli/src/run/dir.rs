//! `$ERRAND_DIR`: the task's private directory. On memory, never on a disk; 0700, its files 0600; gone with the task.

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use proto_types::{Entropy, Secret};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Every private directory's name starts so.
pub const PREFIX: &str = "errand-";

/// Why there is no private directory, or a file is not in it.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    #[error("there is no memory-backed directory for credentials (tried {0})")]
    NoMemory(String),
    #[error("cannot make the private directory {path}: {source}")]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// The directory; removed when dropped.
#[derive(Debug)]
pub struct PrivateDir {
    path: PathBuf,
    /// Numbers the files that are renamed into place.
    writes: u64,
}

/// A path for a new private directory: chosen before it is made, so that whoever cleans up knows it first.
pub fn choose(var: &dyn Fn(&str) -> Option<OsString>, entropy: &dyn Entropy) -> Result<PathBuf, DirError> {
    let runtime = var("XDG_RUNTIME_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = PathBuf::from(format!("/run/user/{}", nix::unistd::geteuid()));
    let places: Vec<PathBuf> = runtime.into_iter().chain([PathBuf::from("/dev/shm"), user]).collect();
    let usable = |p: &&PathBuf| p.is_absolute() && is_memory(p) && is_writable(p);
    let parent = places.iter().find(usable).ok_or_else(|| {
        DirError::NoMemory(places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))
    })?;
    let mut random = [0u8; 10];
    entropy.fill(&mut random);
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(parent.join(format!("{PREFIX}{name}")))
}

fn is_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}

fn is_writable(path: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

impl PrivateDir {
    /// Makes it. Fails when something is there already.
    pub fn make(path: PathBuf) -> Result<Self, DirError> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path, writes: 0 }),
            Err(source) => Err(DirError::Make { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes every file. A reader sees the old content or the new one, never a part.
    pub fn write(&mut self, files: &BTreeMap<PathBuf, Secret<String>>) -> Result<(), DirError> {
        files.iter().try_for_each(|(name, content)| {
            let path = self.path.join(name);
            self.write_one(&path, content.expose().as_bytes()).map_err(|source| DirError::Write { path, source })
        })
    }

    fn write_one(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        }
        self.writes += 1;
        let fresh = self.path.join(format!(".{}", self.writes));
        // `create_new` is O_EXCL: it neither follows nor reuses what a member of the task may have put there.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        fs::rename(&fresh, path)
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a private directory and what is in it; nothing else, whatever the path says.
pub fn remove(path: &Path) {
    let ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
    // A second pass takes what a member of the task wrote during the first.
    if ours && fs::remove_dir_all(path).is_err() {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn files(list: &[(&str, &str)]) -> BTreeMap<PathBuf, Secret<String>> {
        list.iter().map(|(name, content)| (name.into(), content.to_string().into())).collect()
    }

    #[test]
    fn files_are_private_replaced_whole_and_gone_with_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("errand-test");
        let mut dir = PrivateDir::make(path.clone()).unwrap();
        dir.write(&files(&[("a", "1"), ("below/b", "2")])).unwrap();
        dir.write(&files(&[("a", "3")])).unwrap();
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "3");
        for (name, mode) in [("", 0o700), ("a", 0o600), ("below", 0o700), ("below/b", 0o600)] {
            let found = fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name}");
        }
        assert!(PrivateDir::make(path.clone()).is_err(), "never one that is there already");
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_directory_of_this_program_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        for (name, stays) in [("mine", true), ("errand-1", false)] {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            remove(&path);
            assert_eq!(path.exists(), stays, "{name}");
        }
    }

    #[test]
    fn the_directory_lies_on_memory_and_is_never_the_same() {
        let entropy = proto_types::OsEntropy;
        let not_memory = |_: &str| Some(OsString::from("/proc"));
        let (one, two) = (choose(&not_memory, &entropy).unwrap(), choose(&not_memory, &entropy).unwrap());
        assert_ne!(one, two);
        assert!(!one.starts_with("/proc") && is_memory(one.parent().unwrap()));
    }
}
