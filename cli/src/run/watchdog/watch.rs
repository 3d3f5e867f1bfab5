//! What the second process does: waits for orders and for the end of the first. Killed with the first's own tools it
//! could not clean up, so it ignores the signals that end a service or a terminal's session and ends by itself.

use super::{MAX_ORDER, Order};
use crate::run::{cgroup, dir, process, sys};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        socket::{MsgFlags, getsockopt, recv, send, sockopt::PeerPidfd},
    },
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

/// Between SIGTERM and SIGKILL, milliseconds.
const GRACE: u16 = 5_000;

/// What has to go when the first process does.
#[derive(Debug, Default)]
struct Remains {
    directory: Option<PathBuf>,
    command: Option<OwnedFd>,
    cgroup: Option<PathBuf>,
}

/// Watches over the process at the other end of standard input. Answers the exit status.
pub fn watch() -> i32 {
    match watched(std::io::stdin().as_fd()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("errand: only `errand run` starts its watchdog: {error}");
            2
        }
    }
}

fn watched(socket: BorrowedFd<'_>) -> io::Result<()> {
    // The pidfd is of the process that made the socket pair, even if it is gone by now.
    let first = getsockopt(&socket, PeerPidfd)?;
    sys::ignore(&[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGTSTP, Signal::SIGPIPE])?;
    nix::unistd::setsid()?;
    acknowledge(socket);
    let mut remains = Remains::default();
    loop {
        wait(&[socket, first.as_fd()], PollTimeout::NONE)?;
        match next_order(socket) {
            Ok(Some(Order::Done)) => return Ok(()),
            Ok(Some(order)) => {
                remains.add(order);
                acknowledge(socket);
            }
            // Nothing was said, so what woke us is the end of the first.
            Ok(None) if !has_ended(&first)? => {}
            Ok(None) | Err(_) => {
                remains.clear();
                return Ok(());
            }
        }
    }
}

/// `Err` when the other end is closed.
fn next_order(socket: BorrowedFd<'_>) -> io::Result<Option<Order>> {
    let mut bytes = vec![0; MAX_ORDER];
    match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => Ok(serde_json::from_slice(&bytes[..length]).ok()),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn acknowledge(socket: BorrowedFd<'_>) {
    // When nobody reads it, the next turn finds the first process gone.
    let _ = send(socket.as_raw_fd(), b".", MsgFlags::MSG_NOSIGNAL);
}

impl Remains {
    fn add(&mut self, order: Order) {
        match order {
            Order::Directory { path } => self.directory = Some(path),
            Order::Command { pid, start_time, cgroup } => {
                self.cgroup = cgroup;
                // Opened first and compared then: a number given to another process in between does not match.
                let pidfd = process::open(pid).ok();
                self.command = pidfd.filter(|_| process::start_time(pid) == Some(start_time));
            }
            Order::Done => {}
        }
    }

    fn clear(self) {
        if let Some(directory) = &self.directory {
            dir::remove(directory);
        }
        self.terminate();
        if let Some(command) = &self.command
            && !matches!(wait(&[command.as_fd()], PollTimeout::from(GRACE)), Ok(true))
        {
            process::end(command, true);
        }
        if let Some(group) = &self.cgroup {
            cgroup::kill(group);
            for member in cgroup::members(group) {
                // The folder can be removed only when it is empty, which the kernel makes it at its own pace.
                if let Ok(pidfd) = process::open(member) {
                    let _ = wait(&[pidfd.as_fd()], PollTimeout::from(GRACE));
                }
            }
            cgroup::remove(group);
        }
    }

    /// Asks CMD, and every other member of its cgroup, to end.
    fn terminate(&self) {
        if let Some(command) = &self.command {
            process::end(command, false);
        }
        let Some(group) = &self.cgroup else { return };
        for member in cgroup::members(group) {
            // Pinned first, looked up again then: the number may have passed to a stranger.
            if let Ok(pidfd) = process::open(member)
                && cgroup::members(group).contains(&member)
            {
                process::end(&pidfd, false);
            }
        }
    }
}

fn has_ended(first: &OwnedFd) -> io::Result<bool> {
    wait(&[first.as_fd()], PollTimeout::ZERO)
}

/// Whether one of `fds` became readable in time.
fn wait(fds: &[BorrowedFd<'_>], limit: PollTimeout) -> io::Result<bool> {
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    loop {
        match poll(&mut fds, limit) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
