//! A daemon as a process of its own, with its log in a file. The kernel kills it with the test that started it.

use super::binary::errand_binary;
use nix::{sys::signal::Signal, unistd::Pid};
use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use testkit::{disk::DiskFault, poll};

const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// What programs look for a proxy in. Ours do not: with these nothing of theirs would get anywhere.
pub const NO_WAY_OUT: [(&str, &str); 6] = [
    ("HTTP_PROXY", "http://127.0.0.1:1"),
    ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ("ALL_PROXY", "http://127.0.0.1:1"),
    ("http_proxy", "http://127.0.0.1:1"),
    ("https_proxy", "http://127.0.0.1:1"),
    ("all_proxy", "http://127.0.0.1:1"),
];

/// `errand server run` or `errand agent run`.
pub struct Daemon {
    args: Vec<String>,
    /// Of the next life only.
    fault: Option<DiskFault>,
    home: PathBuf,
    log: PathBuf,
    /// Length of the log when it was started last.
    log_before: usize,
    child: Option<Child>,
}

impl Daemon {
    /// Starts `errand ARGS`; its log is appended to `log`.
    pub fn start(args: &[&str], home: &Path, log: PathBuf) -> Self {
        Self::start_on(None, args, home, log)
    }

    /// The same on a disk that may fail; once it is started again the disk is whole.
    pub fn start_on(fault: Option<DiskFault>, args: &[&str], home: &Path, log: PathBuf) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        let mut daemon = Self { args, fault, home: home.into(), log, log_before: 0, child: None };
        daemon.start_again();
        daemon
    }

    /// Starts it once more after it was killed.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.log_before = self.log().len();
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("the log opens");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(errand_binary()).args(&self.args);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.home).env("ERRAND_LOG", "debug");
        command.envs(NO_WAY_OUT).envs(self.fault.take().iter().flat_map(DiskFault::variables));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/");
        self.child = Some(command.spawn().expect("setpriv of util-linux runs"));
    }

    pub fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("it runs");
        i32::try_from(child.id()).expect("a pid fits")
    }
    /// Everything it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it says that it is ready; its own end before that is a failure with its log.
    pub async fn ready(&mut self) {
        assert!(self.is_ready().await, "{:?} is not ready:\n{}", self.args, self.log());
    }

    /// Waits until it says that it is ready, or ends before; which of the two.
    pub async fn is_ready(&mut self) -> bool {
        let pid = self.pid();
        let said = async || self.log()[self.log_before..].lines().any(|l| l.starts_with("ready"));
        let settled = poll::holds_within(super::SOON, async || !super::errand::runs(pid) || said().await).await;
        settled && super::errand::runs(pid)
    }

    /// Waits for an end that nobody asked for; its exit code, none when it was killed.
    pub async fn ends(&mut self) -> Option<i32> {
        let pid = self.pid();
        let ended = poll::holds_within(STOPS_WITHIN, async || !super::errand::runs(pid)).await;
        assert!(ended, "{:?} goes on:\n{}", self.args, self.log());
        let mut child = self.child.take().expect("it ran");
        child.wait().expect("a child can be waited for").code()
    }

    /// SIGABRT, as a bug in the C library would raise it: whether the kernel dumped a core.
    pub fn crash(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
        nix::sys::signal::kill(pid, Signal::SIGABRT).expect("it can be signalled");
        child.wait().expect("a child can be waited for").core_dumped()
    }

    /// SIGKILL: no chance to put anything in order.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and its orderly end. One that was killed has ended.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
        nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it can be signalled");
        let stopped = poll::holds_within(STOPS_WITHIN, async || !super::errand::runs(pid.as_raw())).await;
        if !stopped {
            let _ = child.kill();
        }
        let ended = child.wait().expect("a child can be waited for");
        assert!(stopped && ended.success(), "{:?} ended with {ended}:\n{}", self.args, self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
