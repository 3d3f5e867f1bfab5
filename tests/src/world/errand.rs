//! The command line, run as a person would: a clean environment, this user, a home directory with nothing in it.

use super::{Layout, binary::errand_binary};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
use std::{path::Path, process::Stdio, time::Duration};
use testkit::poll;
use tokio::process::Child;

/// No command of a test takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A command to be run.
pub struct Command {
    inner: tokio::process::Command,
    words: Vec<String>,
}

impl Command {
    /// `errand`, with the world's server, and the agent at `agent`.
    pub fn new(layout: &Layout, agent: &Path) -> Self {
        Self::of(errand_binary(), layout, agent)
    }
    /// Any program, in the same surroundings.
    pub fn of(program: &Path, layout: &Layout, agent: &Path) -> Self {
        let home = layout.dir().join("home");
        let mut inner = tokio::process::Command::new(program);
        inner.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", home).env("LANG", "C.UTF-8");
        inner.env("ERRAND_SERVER_SOCKET", layout.admin_socket());
        inner.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", agent.display()));
        inner.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/").kill_on_drop(true);
        Self { inner, words: vec![program.display().to_string()] }
    }

    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        for arg in args {
            self.inner.arg(arg);
            self.words.push(arg.into());
        }
        self
    }
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.inner.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.inner.env_remove(name);
        self
    }

    /// Runs it and waits for its end.
    pub async fn to_end(self) -> Finished {
        self.start().finish().await
    }
    /// Starts it and comes back.
    pub fn start(mut self) -> Started {
        let child = self.inner.spawn().expect("the program starts");
        let pid = i32::try_from(child.id().expect("it was just started")).expect("a pid fits");
        Started { child, pid, words: self.words }
    }
}

/// A command that runs.
pub struct Started {
    child: Child,
    words: Vec<String>,
    pub pid: i32,
}

impl Started {
    /// SIGKILL to `errand` itself and nothing else.
    pub fn kill(&self) {
        kill(self.pid);
    }
    pub async fn finish(self) -> Finished {
        let Self { child, words, .. } = self;
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{words:?} still runs after {LIMIT:?}"));
        let output = output.expect("a child can be waited for");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), words }
    }
}

/// SIGKILL.
pub fn kill(pid: i32) {
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_else(|e| panic!("kill -9 {pid}: {e}"));
}

/// Whether a process of this number runs; one that waits to be reaped does not.
pub fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|s| !matches!(s, 'Z' | 'X'))
}

/// Waits for a file that a command writes, and reads it.
pub async fn written(path: &Path) -> String {
    let complete = async || std::fs::read_to_string(path).is_ok_and(|t| t.ends_with('\n'));
    poll::until(&format!("{} is written", path.display()), super::SOON, complete).await;
    std::fs::read_to_string(path).expect("it was there").trim_end().into()
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    words: Vec<String>,
}

impl Finished {
    #[track_caller]
    pub fn exited(self, code: i32) -> Self {
        let Self { code: got, stdout, stderr, words } = &self;
        assert_eq!(*got, Some(code), "{}\nstdout: {stdout}\nstderr: {stderr}", words.join(" "));
        self
    }
    #[track_caller]
    pub fn printed(self, text: &str) -> Self {
        assert_eq!(self.stdout, text, "{}\nstderr: {}", self.words.join(" "), self.stderr);
        self
    }
    #[track_caller]
    pub fn said(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{}\n`{text}` is not in: {}", self.words.join(" "), self.stderr);
        self
    }
    /// Its standard output as JSON; null when there is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        if self.stdout.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{:?}: {e} in {}", self.words, self.stdout))
    }
}
