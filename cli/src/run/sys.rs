//! What the kernel offers only to C: fork, execute an opened file, learn who sent a signal. The one file of this crate
//! with `unsafe` in it.
//!
//! Decides nothing: who is forked, what is executed and which signals matter comes from its callers. Between fork and
//! exec the child calls async-signal-safe functions only and allocates nothing, since other threads' locks are copied
//! in whatever state they were.
#![expect(unsafe_code, reason = "fork, execveat and siginfo_t have no safe interface; each use says why it is sound")]

use crate::cores::CoreLimit;
use nix::{
    errno::Errno,
    libc::{self, c_char, c_int},
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, raise, sigaction},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{Pid, pipe2},
};
use std::{
    ffi::CString,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr,
    sync::mpsc,
};
use tokio::io::unix::AsyncFd;

/// What the child will execute.
#[derive(Debug)]
pub struct Image {
    /// Opened for reading, close-on-exec.
    pub file: OwnedFd,
    /// The path it was found by: what a script is executed as, so that it finds itself and its neighbours by `$0`.
    pub path: CString,
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    /// Stop it before its first instruction. Not for a file that changes privileges: the kernel would not let it.
    pub hold: bool,
    /// The limit on cores that it has, and this process has not.
    pub cores: Option<CoreLimit>,
}

/// A child that waits before it executes.
#[derive(Debug)]
pub struct Forked {
    pub pid: Pid,
    /// One byte lets it go on; closed without one it exits.
    pub gate: OwnedFd,
    /// After the exec: `None`, and the program stands still until `release` is dropped; or why there was none.
    pub executed: tokio::sync::oneshot::Receiver<Option<Errno>>,
    pub release: mpsc::Sender<()>,
}

/// Forks, on a thread of its own that stays until the program runs: the kernel lets only the thread that forked hold
/// the child at its exec. The child has the caller's signal mask and the default action for every signal not ignored.
pub fn fork_waiting(image: Image) -> io::Result<Forked> {
    let (forked_tx, forked_rx) = mpsc::channel();
    let (executed_tx, executed) = tokio::sync::oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    std::thread::Builder::new().name("cmd".into()).spawn(move || {
        let (pid, gate, report) = match fork(&image) {
            Ok(forked) => forked,
            // Whoever asked has gone away: nothing was started.
            Err(error) => return drop(forked_tx.send(Err(error))),
        };
        drop(image);
        if forked_tx.send(Ok((pid, gate))).is_err() {
            return;
        }
        let (held, errno) = follow_exec(pid, report);
        let _ = executed_tx.send(errno);
        // Disconnected counts as released: CMD must never be left standing.
        let _ = released.recv();
        if held {
            // SAFETY: PTRACE_DETACH on a child that this thread traces and that is stopped; no memory is passed.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, pid.as_raw(), 0, 0) };
        }
    })?;
    let (pid, gate) = forked_rx.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
    Ok(Forked { pid, gate, executed, release })
}

/// Reads what the child reports, and waits for its exec to stop it. Answers whether it is held, and errno if it failed.
fn follow_exec(pid: Pid, report: OwnedFd) -> (bool, Option<Errno>) {
    let mut report = std::fs::File::from(report);
    let mut traced = [0u8];
    let traced = report.read_exact(&mut traced).is_ok() && traced == *TRACED;
    let held = traced && stopped_at_exec(pid);
    let mut errno = Vec::new();
    let _ = report.read_to_end(&mut errno);
    let errno = <[u8; 4]>::try_from(errno.as_slice()).ok().map(|raw| Errno::from_raw(i32::from_ne_bytes(raw)));
    (held, errno)
}

/// Waits until the traced child stops at its exec; signals that arrive before are passed on. `false`: it exited.
fn stopped_at_exec(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(pid), flags) {
            Ok(WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceEvent(..)) => return true,
            Ok(WaitStatus::Stopped(_, signal)) => {
                // SAFETY: PTRACE_CONT on a child that this thread traces and that is stopped; no memory is passed.
                unsafe { libc::ptrace(libc::PTRACE_CONT, pid.as_raw(), 0, signal as c_int) };
            }
            Err(Errno::EINTR) => {}
            _ => return false,
        }
    }
}

/// What the child says before its exec: whether it will stop there.
const TRACED: &[u8; 1] = b"t";
const NOT_TRACED: &[u8; 1] = b"n";

fn fork(image: &Image) -> io::Result<(Pid, OwnedFd, OwnedFd)> {
    let pointers =
        |list: &[CString]| -> Vec<*const c_char> { list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect() };
    let (argv, env) = (pointers(&image.argv), pointers(&image.env));
    let (gate_read, gate) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (report, report_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // No handler of this process may run in the child: handlers write to pipes that both would share.
    let mut mask = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut mask))?;
    let plan = Plan {
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        path: image.path.as_ptr(),
        file: image.file.as_raw_fd(),
        hold: image.hold,
        cores: image.cores.map(|CoreLimit(soft, hard)| libc::rlimit { rlim_cur: soft, rlim_max: hard }),
        gate_read: gate_read.as_raw_fd(),
        gate_write: gate.as_raw_fd(),
        report: report_write.as_raw_fd(),
        mask: mask.as_ref(),
    };
    // SAFETY: the child calls `execute` at once, which calls async-signal-safe functions only and never returns; the
    // memory behind `plan` is this function's own and is copied with the process.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: this is the child of the fork above; every pointer in `plan` is to live, NUL-terminated memory.
        unsafe { execute(&plan) }
    }
    let outcome = Errno::result(pid);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    Ok((Pid::from_raw(outcome?), gate, report))
}

/// Everything the child needs, made before the fork.
struct Plan<'a> {
    argv: *const *const c_char,
    env: *const *const c_char,
    path: *const c_char,
    file: c_int,
    hold: bool,
    cores: Option<libc::rlimit>,
    gate_read: c_int,
    gate_write: c_int,
    report: c_int,
    mask: &'a libc::sigset_t,
}

/// The child's whole life before exec.
///
/// # Safety
/// To be called in a freshly forked child only; `plan`'s arrays end in NULL and its strings in NUL.
unsafe fn execute(plan: &Plan<'_>) -> ! {
    // SAFETY: sigaction, signal, close, sigprocmask, read, ptrace, setrlimit, execve, execveat (bare system calls), write and
    // _exit are async-signal-safe; every buffer is on this stack or was made before the fork.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            let mut now: libc::sigaction = std::mem::zeroed();
            let known = libc::sigaction(signal, ptr::null(), &mut now) == 0;
            // Rust ignores SIGPIPE for itself; CMD expects it as every program does.
            if known && (now.sa_sigaction != libc::SIG_IGN || signal == libc::SIGPIPE) {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        // With its own copy of the writing end open it would never see the parent go.
        libc::close(plan.gate_write);
        libc::sigprocmask(libc::SIG_SETMASK, plan.mask, ptr::null_mut());
        let mut go = 0u8;
        loop {
            match libc::read(plan.gate_read, (&raw mut go).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => libc::_exit(super::failure::OWN),
            }
        }
        // Refused where this process is traced itself or tracing is forbidden: then it runs at once.
        let traced = plan.hold && libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0;
        let says = if traced { TRACED } else { NOT_TRACED };
        libc::write(plan.report, says.as_ptr().cast(), says.len());
        // At the last: until now its memory is a copy of this process's.
        if let Some(limit) = &plan.cores {
            libc::setrlimit(libc::RLIMIT_CORE, limit);
        }
        exec_file(plan);
        if *libc::__errno_location() == libc::ENOENT {
            // A script: by descriptor its interpreter would be told `/dev/fd/N`, and it would not know its own name.
            libc::execve(plan.path, plan.argv, plan.env);
        }
        let errno: c_int = *libc::__errno_location();
        libc::write(plan.report, (&raw const errno).cast(), size_of::<c_int>());
        libc::_exit(super::failure::NOT_EXECUTABLE)
    }
}

/// Returns only when it failed, with errno set.
///
/// # Safety
/// As [`execute`].
unsafe fn exec_file(plan: &Plan<'_>) {
    // SAFETY: execveat(2) with AT_EMPTY_PATH reads the descriptor, an empty C string and the two arrays.
    unsafe {
        libc::syscall(libc::SYS_execveat, plan.file, c"".as_ptr(), plan.argv, plan.env, libc::AT_EMPTY_PATH);
    }
}

/// One caught signal, as it travels through the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    pub signal: i32,
    /// Who sent it; `None` when the kernel did, as a terminal's keys do.
    pub sender: Option<i32>,
}

impl Caught {
    pub const SIZE: usize = 9;

    fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.signal.to_ne_bytes());
        bytes[4] = u8::from(self.sender.is_some());
        bytes[5..].copy_from_slice(&self.sender.unwrap_or(0).to_ne_bytes());
        bytes
    }
    pub fn decode(bytes: [u8; Self::SIZE]) -> Self {
        let [a, b, c, d, sent, e, f, g, h] = bytes;
        let sender = (sent == 1).then(|| i32::from_ne_bytes([e, f, g, h]));
        Self { signal: i32::from_ne_bytes([a, b, c, d]), sender }
    }
}

/// `fd` as tokio waits for it.
pub fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open description until it is dropped, which deregisters it first.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// What [`catch`] installed; undone when dropped.
#[derive(Debug)]
pub struct Handlers(Vec<signal_hook_registry::SigId>);

impl Drop for Handlers {
    fn drop(&mut self) {
        for id in self.0.drain(..) {
            signal_hook_registry::unregister(id);
        }
    }
}

/// Writes each of `signals` that arrives to `pipe`, except those that are ignored now: under `nohup` they stay so, for
/// CMD too.
pub fn catch(signals: &[Signal], pipe: OwnedFd) -> io::Result<Handlers> {
    let pipe = std::sync::Arc::new(pipe);
    let mut handlers = Handlers(Vec::new());
    for &signal in signals {
        if is_ignored(signal) {
            continue;
        }
        let pipe = pipe.clone();
        let action = move |info: &libc::siginfo_t| {
            // Kernel codes are positive (SI_KERNEL); what a process sent has a code of zero or less.
            let sent = info.si_code <= 0;
            // SAFETY: with such a code the sender's pid is the member of the union that the kernel filled.
            let sender = sent.then(|| unsafe { info.si_pid() });
            // A full pipe loses a signal that arrived thousands of times unread; nothing may block here.
            let _ = nix::unistd::write(pipe.as_fd(), &Caught { signal: signal as i32, sender }.encode());
        };
        // SAFETY: the action calls write(2) on a non-blocking descriptor, which is async-signal-safe, and allocates
        // nothing.
        handlers.0.push(unsafe { signal_hook_registry::register_sigaction(signal as c_int, action) }?);
    }
    Ok(handlers)
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: sigaction(2) with no new action only reads the present one into memory of the right size.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as c_int, ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// Stops this process as an uncaught SIGTSTP does, and returns when it is continued. A process group that no shell
/// watches is not stopped, as the kernel has it.
pub fn stop() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no function; what was there before is put back unchanged.
    let before = unsafe { sigaction(Signal::SIGTSTP, &default) }?;
    let stopped = raise(Signal::SIGTSTP);
    // SAFETY: `before` is the action the kernel just reported.
    unsafe { sigaction(Signal::SIGTSTP, &before) }?;
    stopped
}

/// Ignores `signals` from now on.
pub fn ignore(signals: &[Signal]) -> nix::Result<()> {
    let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in signals {
        // SAFETY: SIG_IGN is no function.
        unsafe { sigaction(*signal, &ignored) }?;
    }
    Ok(())
}
