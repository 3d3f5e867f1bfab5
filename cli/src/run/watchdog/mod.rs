//! The second process of `errand run`, in a session of its own: when the first is killed it removes the private
//! directory and ends CMD. This side starts it and keeps it told; [`watch`] is what it does.
//!
//! It is this program executed anew, not a fork that lives on: so it holds no key, no token and no descriptor of the
//! first. Each order goes over a socket pair and is acknowledged before the thing it is about exists.

pub mod watch;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use proto_types::Clock;
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Longest order, bytes.
const MAX_ORDER: usize = 16 * 1024;
/// It has nothing to do but to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the first process tells the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Order {
    /// The private directory that will be made.
    Directory { path: PathBuf },
    /// The child that will execute CMD. Its start time tells it from a later process of the same number.
    Command { pid: i32, start_time: u64, cgroup: Option<PathBuf> },
    /// All is cleaned up: go.
    Done,
}

/// The running second process.
#[derive(Debug)]
pub struct Watchdog {
    socket: AsyncFd<OwnedFd>,
    process: tokio::process::Child,
}

impl Watchdog {
    /// Starts it; it is not yet known to watch.
    pub fn start() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let process = tokio::process::Command::new("/proc/self/exe")
            .arg0("errand")
            .args(["run", "--watchdog"])
            // What a debugging or tracing variable would make it print, it has nowhere to print.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { socket: super::sys::watched(ours)?, process })
    }

    /// Returns once it watches.
    pub async fn ready(&self, clock: &dyn Clock) -> io::Result<()> {
        self.acknowledged(clock).await
    }

    /// To be called before the directory is made.
    pub async fn directory(&self, path: &Path, clock: &dyn Clock) -> io::Result<()> {
        self.tell(&Order::Directory { path: path.into() })?;
        self.acknowledged(clock).await
    }

    /// To be called while the child waits.
    pub async fn command(&self, pid: i32, cgroup: Option<&Path>, clock: &dyn Clock) -> io::Result<()> {
        let start_time = super::process::start_time(pid).ok_or(io::ErrorKind::NotFound)?;
        self.tell(&Order::Command { pid, start_time, cgroup: cgroup.map(Into::into) })?;
        self.acknowledged(clock).await
    }

    /// Dismisses it and waits until it is gone.
    pub async fn done(mut self, clock: &dyn Clock) {
        if self.tell(&Order::Done).is_ok() {
            let _ = crate::agent_client::within(clock, PATIENCE, self.process.wait()).await;
        }
    }

    fn tell(&self, order: &Order) -> io::Result<()> {
        let text = serde_json::to_vec(order)?;
        send(self.socket.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    async fn acknowledged(&self, clock: &dyn Clock) -> io::Result<()> {
        let receive = |socket: &OwnedFd| {
            let mut byte = [0u8; 1];
            match recv(socket.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT)? {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                _ => Ok(()),
            }
        };
        let answer = self.socket.async_io(Interest::READABLE, receive);
        crate::agent_client::within(clock, PATIENCE, answer).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}
