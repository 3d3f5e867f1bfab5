//! A disk that fails under a process of its own: a shim in front of the C library, which any user may load.
//!
//! Decides which call fails and how; what must hold then is the test's. `disk.c` is compiled where it is needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Open,
    Write,
    Sync,
    /// Before a file is put in the place of another.
    Rename,
    /// After it.
    Renamed,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The process dies there; a write leaves half of its bytes.
    Kill,
    /// The device failed.
    Io,
    /// There is no space.
    Full,
}

/// One fault of the disk.
#[derive(Clone, Debug)]
pub struct DiskFault {
    call: Call,
    path_ends: String,
    nth: u32,
    outcome: Outcome,
    only_while: Option<PathBuf>,
}

impl DiskFault {
    /// `outcome` for the `nth` call (from 1; 0 is each) on a file whose path ends like this.
    pub fn new(call: Call, path_ends: &str, nth: u32, outcome: Outcome) -> Self {
        Self { call, path_ends: path_ends.into(), nth, outcome, only_while: None }
    }
    /// Only while this file exists.
    pub fn only_while(mut self, file: &Path) -> Self {
        self.only_while = Some(file.into());
        self
    }

    /// The variables of a process that is to have this fault.
    pub fn variables(&self) -> Vec<(String, String)> {
        let call = match self.call {
            Call::Open => "open",
            Call::Write => "write",
            Call::Sync => "sync",
            Call::Rename => "rename",
            Call::Renamed => "renamed",
        };
        let what = match self.outcome {
            Outcome::Kill => "kill",
            Outcome::Io => "EIO",
            Outcome::Full => "ENOSPC",
        };
        let fault = format!("{call}:{}:{}:{what}", self.path_ends, self.nth);
        let mut variables =
            vec![("LD_PRELOAD".to_string(), shim().display().to_string()), ("DISK_FAULT".to_string(), fault)];
        variables.extend(self.only_while.iter().map(|f| ("DISK_FAULT_WHILE".into(), f.display().to_string())));
        variables
    }
}

/// The compiled shim, beside the program that asks for it: made once by each process, renamed when it is whole.
fn shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = std::env::current_exe().expect("this program has a path");
        let folder = program.parent().expect("a program lies in a folder");
        let of_process = |end: &str| folder.join(format!("errand-disk-{}.{end}", std::process::id()));
        let (source, new, library) = (of_process("c"), of_process("so"), folder.join("errand-disk.so"));
        fs::write(&source, include_str!("disk.c")).expect("the target directory can be written");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&new).arg(&source).arg("-ldl");
        let built = compiler.output().expect("cc is missing: apt-get install gcc libc6-dev");
        assert!(built.status.success(), "disk.c: {}", String::from_utf8_lossy(&built.stderr));
        fs::remove_file(&source).expect("it was there");
        fs::rename(&new, &library).expect("the target directory can be written");
        library
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cp` under this fault.
    fn copies(fault: &DiskFault, dir: &Path) -> bool {
        let mut copy = Command::new("dd");
        copy.arg(format!("if={}", dir.join("from").display())).arg(format!("of={}", dir.join("to").display()));
        copy.args(["conv=fsync", "status=none"]).envs(fault.variables()).stderr(std::process::Stdio::null());
        copy.status().expect("dd of coreutils runs").success()
    }

    #[test]
    fn the_call_that_is_named_fails_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("from"), "all of it").unwrap();
        let flag = dir.path().join("flag");
        for (call, outcome) in [(Call::Write, Outcome::Full), (Call::Sync, Outcome::Io), (Call::Open, Outcome::Io)] {
            let fault = DiskFault::new(call, "/to", 1, outcome);
            assert!(!copies(&fault, dir.path()), "{fault:?}");
            assert!(copies(&DiskFault::new(call, "/to", 9, outcome), dir.path()), "{call:?}: the ninth never comes");
            assert!(copies(&DiskFault::new(call, "/other", 1, outcome), dir.path()), "{call:?} of another file");
            assert!(copies(&fault.clone().only_while(&flag), dir.path()), "{call:?} while there is no flag");
        }
        assert!(!copies(&DiskFault::new(Call::Write, "/to", 1, Outcome::Kill), dir.path()));
        assert_eq!(fs::read_to_string(dir.path().join("to")).unwrap(), "all ", "half a write");
    }
}
