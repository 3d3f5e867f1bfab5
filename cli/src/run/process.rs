//! One process, pinned: a pidfd stays with the process it was made for, whatever its number is given to later.

use nix::{
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use std::{io, os::fd::OwnedFd};
use tokio::io::unix::AsyncFd;

/// A descriptor for process `pid` that polls readable once it has exited.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends SIGTERM or SIGKILL to whatever `pidfd` is for; a process that is gone is no error.
pub fn end(pidfd: &OwnedFd, forcibly: bool) {
    let signal = if forcibly { rustix::process::Signal::KILL } else { rustix::process::Signal::TERM };
    let _ = pidfd_send_signal(pidfd, signal);
}

/// One field of `/proc/PID/stat`, numbered as in proc(5) from 3 on.
pub fn stat_field(pid: i32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, which may hold spaces and parentheses: it ends at the last one.
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_whitespace().nth(number.checked_sub(3)?).map(str::to_string)
}

/// When `pid` started, clock ticks since boot: with the number it names one process for good.
pub fn start_time(pid: i32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// A child of this process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Child {
    pub fn new(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid, pidfd: super::sys::watched(open(pid.as_raw())?)?, reaped: false })
    }

    /// Stays its own until [`Self::exited`] has answered.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has exited, and answers as a shell does: its status, or 128 and the signal.
    pub async fn exited(&mut self) -> io::Result<i32> {
        loop {
            let _ready = self.pidfd.readable().await?;
            if let Some(status) = self.reap()? {
                return Ok(status);
            }
        }
    }

    /// The same without waiting.
    pub fn reap(&mut self) -> io::Result<Option<i32>> {
        let status = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            _ => return Ok(None),
        };
        self.reaped = true;
        Ok(Some(status))
    }

    /// Kills it and waits.
    pub fn kill(&mut self) {
        if !self.reaped {
            end(self.pidfd.get_ref(), true);
            self.reaped = waitpid(self.pid, None).is_ok();
        }
    }
}

impl Drop for Child {
    /// A child that nobody waited for has no right to live: its task is over.
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_past_its_name() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(stat_field(me, 4), Some(nix::unistd::getppid().to_string()));
        assert!(start_time(me).is_some());
        assert_eq!(start_time(i32::MAX), None);
    }
}
