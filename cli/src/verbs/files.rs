//! Writing into a directory: each file whole or not at all, keys readable by their owner only, public documents by all.

use crate::error::{CliError, Result};
use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// An X509-SVID as PEM texts.
pub struct SvidFiles<'a> {
    pub svid: &'a str,
    pub key: &'a str,
    pub bundle: &'a str,
}

/// Writes `svid.pem`, `key.pem` and `bundle.pem`, mode 0600, into `dir`, which is made (0700) when it is not there.
pub fn write_svid(dir: &Path, files: &SvidFiles<'_>) -> Result<()> {
    make(dir, 0o700)?;
    // The key first: a reader that waits for svid.pem finds the key it belongs to.
    for (name, text) in [("key.pem", files.key), ("bundle.pem", files.bundle), ("svid.pem", files.svid)] {
        write(dir, name, text.as_bytes(), PRIVATE)?;
    }
    Ok(())
}

/// Writes a document for everybody into `dir`, which is made when it is not there.
pub fn write_public(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    make(dir, 0o755)?;
    write(dir, name, bytes, PUBLIC)
}

fn make(dir: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|e| CliError::failed(format!("cannot make the directory: {e}")).at(dir.display()))
}

fn write(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    replace(dir, name, bytes, mode).map_err(|e| {
        CliError::failed(format!("cannot write the file: {e}"))
            .at(dir.join(name).display())
            .hint("check the directory's owner, its mode and the space left")
    })
}

/// Through a file beside it and a rename, so that a reader never sees half of one.
fn replace(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = dir.join(format!(".{name}.{}", std::process::id()));
    // A leftover of a killed process with our id, or a link someone planted: never written through.
    let _ = std::fs::remove_file(&beside);
    let written = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        // Set, since the process's mask would take from it what others need.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    });
    let done = written.and_then(|()| std::fs::rename(&beside, dir.join(name)));
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    done
}
