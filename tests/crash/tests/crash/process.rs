//! One server process.

use nix::{sys::signal::Signal, unistd::Pid};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use std::{
    fs::File,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use testkit::disk::DiskFault;
use tests_crash::world::{Hello, World};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};

const START: Duration = Duration::from_secs(30);
/// The longest a server may take to find something out.
pub const REACTS: Duration = Duration::from_secs(10);

pub struct Server {
    pub hello: Hello,
    child: Child,
    /// It ends when this is closed; waiting for a child closes what the child still holds of it.
    _alive: ChildStdin,
}

impl Server {
    /// With `extra` arguments; panics with the log when it does not come up.
    pub async fn start(world: &World, extra: &[String]) -> Self {
        let started = Self::begin(world, extra, &[]).await;
        started.unwrap_or_else(|| panic!("the server did not start:\n{}", world.log()))
    }

    /// On a disk that fails; `None` when it did while the server started.
    pub async fn start_on(world: &World, fault: &DiskFault) -> Option<Self> {
        Self::begin(world, &[], &fault.variables()).await
    }

    async fn begin(world: &World, extra: &[String], variables: &[(String, String)]) -> Option<Self> {
        let log = File::options().create(true).append(true).open(world.log_file()).expect("the log opens");
        let mut child = Command::new(env!("CARGO_BIN_EXE_errand-crash"))
            .arg("--config")
            .arg(world.config_file())
            .args(extra)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("errand-crash starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await.ok().and_then(Result::ok).flatten();
        let hello = line.and_then(|l| serde_json::from_str(&l).ok())?;
        let alive = child.stdin.take().expect("piped");
        Some(Self { hello, child, _alive: alive })
    }

    /// Whether it ends by itself within the limit.
    pub async fn dies_within(&mut self, limit: Duration) -> bool {
        self.ends_within(limit).await.is_some()
    }

    /// How it ends by itself; `None` when it does not within the limit.
    pub async fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(limit, self.child.wait()).await.ok().map(|ended| ended.expect("a child can be waited for"))
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("it runs")).expect("a pid fits")
    }
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal).expect("it can be signalled");
    }
    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}

/// Randomness of one seed.
pub struct Dice(ChaCha20Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }
    /// From 1 to `n`.
    pub fn roll(&mut self, n: u64) -> u64 {
        1 + self.0.next_u64() % n
    }
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.roll(i as u64 + 1) - 1) as usize);
        }
    }
}

/// The seeds to run: `n` of them, or the one of `ERRAND_SEED`.
pub fn seeds(n: u64) -> Vec<u64> {
    match std::env::var("ERRAND_SEED") {
        Ok(one) => vec![one.parse().expect("ERRAND_SEED is a number")],
        Err(_) => (1..=n).collect(),
    }
}
