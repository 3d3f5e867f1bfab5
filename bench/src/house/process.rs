//! One daemon as a process: started, waited for, looked at, ended. None outlives this program.

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use testkit::poll;

/// How long a daemon may take to be ready, and to end.
const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(20);

/// Resident memory of a process, MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: f64,
    pub most: f64,
}

pub struct Process {
    child: Child,
    what: &'static str,
}

impl Process {
    /// Starts this program as `what` (`server` or `agent`) and waits until it says `ready`.
    pub async fn start(what: &'static str, config: &Path, log: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut command = Command::new(program);
        command.args(["daemon", what, "--config"]).arg(config);
        let mut started = Self::spawn(what, command, log)?;
        let said = |log: &PathBuf| fs::read_to_string(log).unwrap_or_default();
        let log = log.to_path_buf();
        let ready = poll::holds_within(READY, || {
            let over = started.child.try_wait().is_ok_and(|s| s.is_some());
            std::future::ready(over || said(&log).lines().any(|l| l.starts_with("ready")))
        });
        let ready = ready.await && started.child.try_wait()?.is_none();
        ensure!(ready, "the {what} did not get ready:\n{}", said(&log));
        Ok(started)
    }

    /// Starts somebody else's program, with `log` for what it says; when it is ready, it shows by itself.
    pub fn spawn(what: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("{what}: {}", command.get_program().display()))?;
        Ok(Self { child, what })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).context("a line of /proc/PID/status")?;
            let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
            Ok(kib / 1024.0)
        };
        Ok(Memory { now: field("VmRSS:")?, most: field("VmHWM:")? })
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?;
        let child = &mut self.child;
        let ended = poll::holds_within(END, || std::future::ready(child.try_wait().is_ok_and(|s| s.is_some()))).await;
        ensure!(ended, "the {} did not end within {END:?}", self.what);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whatever happened: nothing stays behind. One that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
