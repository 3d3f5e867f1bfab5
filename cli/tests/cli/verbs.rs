//! Operator verbs: exit statuses, what is on stdout and what on stderr, JSON, help.

mod admin;
mod help;
mod holds;
mod journal;
mod without_server;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// What one run of the program left.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Ran {
    fn from(o: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: o.status.code().unwrap(), stdout: text(o.stdout), stderr: text(o.stderr) }
    }
}

/// The program in an empty environment whose home is `home`.
pub fn errand(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_errand"));
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

pub fn run(home: &Path, args: &[&str]) -> Ran {
    errand(home).args(args).output().unwrap().into()
}
