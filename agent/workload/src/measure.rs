//! Measuring a command before it is run: the opened file, and for a script the interpreter it names.
//!
//! What is measured is the descriptor, and the descriptor is what is executed; the path is what the kernel calls it. Says
//! what the file is, not whether it may run.

use crate::{
    hash::{HashError, Hasher},
    proc::{FileId, ProcDir},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open, readlink},
    sys::{stat::Mode, uio::pread},
};
use proto_types::Selector;
use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the kernel reads of a file to see whether it is a script (execve(2)).
const HEAD: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    #[error("cannot measure {what}: {why}")]
    Hash { what: &'static str, why: HashError },
    #[error("cannot open the interpreter {path} of the script: {errno}")]
    Interpreter { path: PathBuf, errno: Errno },
    #[error("the interpreter {path} of the script is itself a script; run it directly")]
    Nested { path: PathBuf },
    #[error("the first line of the script names no interpreter within {HEAD} bytes")]
    Shebang,
}

/// One measured file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    pub id: FileId,
    /// SHA-256, lowercase hex.
    pub sha256: Arc<str>,
    /// What the kernel calls the opened file now; `None` when it is deleted or not text.
    pub path: Option<String>,
    /// For a script, what runs it.
    pub interpreter: Option<Box<Measured>>,
}

impl Measured {
    /// `cmd:path` and `cmd:sha256` of the command and of its interpreter. An entry that names a script names both, or
    /// any script of that interpreter would do.
    pub fn selectors(&self) -> Vec<Selector> {
        let path = self.path.as_ref().map(|p| format!("path:{p}"));
        let values = path.into_iter().chain([format!("sha256:{}", self.sha256)]);
        let own = values.filter_map(|v| Selector::new("cmd", v).ok());
        own.chain(self.interpreter.iter().flat_map(|i| i.selectors())).collect()
    }

    /// The file that a process which executed this one runs: the interpreter's for a script.
    pub fn runs(&self) -> FileId {
        self.interpreter.as_ref().map_or(self.id, |i| i.id)
    }

    /// Whether the process runs what was measured, unchanged since: device, inode, size and times of `/proc/PID/exe`.
    /// `false` too where the agent may not look.
    pub fn is_run_by(&self, process: &ProcDir) -> bool {
        process.as_dir().exe() == Ok(Some(self.runs()))
    }
}

/// Measures an opened file.
pub async fn measure(hasher: &Hasher, file: &OwnedFd) -> Result<Measured, MeasureError> {
    let mut command = measure_one(hasher, file, "the command").await?;
    if let Some(path) = shebang(file)? {
        let fail = |errno| MeasureError::Interpreter { path: path.clone(), errno };
        let interpreter = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
        let measured = measure_one(hasher, &interpreter, "the interpreter").await?;
        // The kernel follows several; each would have to be measured, and nobody writes them.
        if shebang(&interpreter)?.is_some() {
            return Err(MeasureError::Nested { path });
        }
        command.interpreter = Some(Box::new(measured));
    }
    Ok(command)
}

async fn measure_one(hasher: &Hasher, file: &OwnedFd, what: &'static str) -> Result<Measured, MeasureError> {
    let fail = |why| MeasureError::Hash { what, why };
    let copy = file.try_clone().map_err(|e| fail(HashError::Io(Errno::from_raw(e.raw_os_error().unwrap_or(0)))))?;
    let hashed = hasher.hash(copy).await.map_err(fail)?;
    let path = readlink(own_link(file).as_str()).ok().and_then(|p| p.into_string().ok());
    let path = path.filter(|p| p.starts_with('/') && !p.ends_with(" (deleted)"));
    Ok(Measured { id: hashed.id, sha256: hashed.sha256, path, interpreter: None })
}

fn own_link(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The interpreter that `file` names, if it is a script. The file has been found regular and local by then.
fn shebang(file: &OwnedFd) -> Result<Option<PathBuf>, MeasureError> {
    let fail = |errno| MeasureError::Hash { what: "the first line", why: HashError::Io(errno) };
    let readable = open(own_link(file).as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
    let mut head = [0u8; HEAD];
    let n = pread(&readable, &mut head, 0).map_err(fail)?;
    parse_shebang(&head[..n])
}

/// Reads `#! interpreter [argument]` as execve(2) does: blanks around the path, the line ended within the head unless the
/// path is.
pub fn parse_shebang(head: &[u8]) -> Result<Option<PathBuf>, MeasureError> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let line_end = rest.iter().position(|b| *b == b'\n');
    let line = &rest[..line_end.unwrap_or(rest.len())];
    let is_blank = |b: &u8| matches!(*b, b' ' | b'\t');
    let start = line.iter().position(|b| !is_blank(b)).ok_or(MeasureError::Shebang)?;
    let path = &line[start..];
    let end = path.iter().position(|b| is_blank(b) || *b == 0);
    // A path cut off by the end of the head could be that of another program.
    if end.is_none() && line_end.is_none() && head.len() >= HEAD {
        return Err(MeasureError::Shebang);
    }
    let text = std::str::from_utf8(&path[..end.unwrap_or(path.len())]).map_err(|_| MeasureError::Shebang)?;
    // A relative one depends on the directory of whoever runs it, which is not the agent's.
    if !Path::new(text).is_absolute() {
        return Err(MeasureError::Shebang);
    }
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_read_as_the_kernel_reads_it() {
        let reads = |head: &[u8]| parse_shebang(head).map(|p| p.map(|p| p.to_str().unwrap().to_string()));
        assert_eq!(reads(b"\x7fELF"), Ok(None));
        assert_eq!(reads(b"# !/bin/sh\n"), Ok(None));
        for head in ["#!/bin/sh", "#!/bin/sh\n#!/bin/no", "#! \t/bin/sh -e \n", "#!/bin/sh\0x\n"] {
            assert_eq!(reads(head.as_bytes()), Ok(Some("/bin/sh".into())), "{head:?}");
        }
        let long = format!("#!/{}", "x".repeat(HEAD));
        for head in ["#!", "#!\n/bin/sh", "#!  \n", "#!bin/sh\n", "#!\0/bin/sh\n", &long[..HEAD]] {
            assert_eq!(reads(head.as_bytes()), Err(MeasureError::Shebang), "{head:?}");
        }
        let argument = format!("#!/bin/sh {}", "x".repeat(HEAD));
        assert_eq!(reads(&argument.as_bytes()[..HEAD]), Ok(Some("/bin/sh".into())), "only the argument is cut");
    }
}
