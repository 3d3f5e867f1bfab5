//! Signals on their way to CMD. Decides which are passed on.
//!
//! CMD stays in the process group of `errand run`, as with `env` or `nohup`: it keeps the terminal, and a pipeline's
//! other members keep theirs. So what a terminal sends reached CMD already, and only what was sent to this process is
//! passed on.

use super::sys::{self, Caught};
use nix::{
    fcntl::OFlag,
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid, getsid, pipe2},
};
use std::io;
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver};

const PASSED_ON: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// The signals this process received, one after the other.
#[derive(Debug)]
pub struct Signals {
    pipe: Receiver,
    /// A record that was read in part when its reader was cancelled.
    partial: Vec<u8>,
    _handlers: sys::Handlers,
}

impl Signals {
    /// From now on signals end nothing by themselves.
    pub fn catch() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self {
            pipe: Receiver::from_owned_fd(read)?,
            partial: Vec::with_capacity(Caught::SIZE),
            _handlers: sys::catch(&PASSED_ON, write)?,
        })
    }

    /// The next one. Safe to cancel.
    pub async fn next(&mut self) -> Caught {
        loop {
            if let Ok(bytes) = <[u8; Caught::SIZE]>::try_from(self.partial.as_slice()) {
                self.partial.clear();
                return Caught::decode(bytes);
            }
            let mut rest = [0u8; Caught::SIZE];
            let missing = Caught::SIZE - self.partial.len();
            match self.pipe.read(&mut rest[..missing]).await {
                Ok(read @ 1..) => self.partial.extend_from_slice(&rest[..read]),
                // The writing end lives as long as `self`: there is nothing left to wait for.
                _ => std::future::pending().await,
            }
        }
    }

    /// The next one that ends a program that does not catch it.
    pub async fn fatal(&mut self) -> i32 {
        loop {
            let caught = self.next().await;
            match Signal::try_from(caught.signal) {
                Ok(Signal::SIGWINCH | Signal::SIGCONT) | Err(_) => {}
                // Nothing runs yet that would have to be stopped with us.
                Ok(Signal::SIGTSTP) => drop(sys::stop()),
                Ok(_) => return caught.signal,
            }
        }
    }
}

/// Does with one signal what `child` should see of it.
pub fn pass_on(caught: Caught, child: Pid) {
    let Ok(signal) = Signal::try_from(caught.signal) else { return };
    if reaches_child(signal, caught.sender, child) {
        let _ = kill(child, signal);
    }
    if signal == Signal::SIGTSTP {
        // The shell that waits for this process must see it stop, as it would see CMD.
        let _ = sys::stop();
    }
}

fn reaches_child(signal: Signal, sender: Option<i32>, child: Pid) -> bool {
    match (signal, sender) {
        // A terminal that hangs up tells the leader of its session alone.
        (Signal::SIGHUP, None) => getsid(None).is_ok_and(|leader| leader == getpid()),
        (_, None) => false,
        // An editor that suspends itself stops its whole group, us included, and is stopped already.
        (Signal::SIGTSTP, Some(sender)) => !descends(sender, child.as_raw()),
        (_, Some(_)) => true,
    }
}

/// Whether `pid` is `ancestor` or descends from it.
fn descends(mut pid: i32, ancestor: i32) -> bool {
    for _ in 0..64 {
        if pid == ancestor {
            return true;
        }
        match parent_of(pid) {
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
    false
}

fn parent_of(pid: i32) -> Option<i32> {
    super::process::stat_field(pid, 4)?.parse().ok()
}
