//! A listening socket, and children that connect to it: this very test binary, started again in a role.

use agent_workload::{PeerPidfd, PinnedCaller, Witness};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener, net::UnixStream},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

pub const MODES: [PeerPidfd; 2] = [PeerPidfd::Auto, PeerPidfd::ByNumber];
pub const SOCKET: &str = "ERRAND_TEST_SOCKET";
pub const PROC: &str = "ERRAND_TEST_PROC";

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says aloud that a part did not run, and why.
pub fn skipped(why: &str) {
    println!("not run here: {why}");
}

/// Waits for a condition, at most about ten seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
    for _ in 0..2000 {
        if holds() {
            return;
        }
        ticks.tick().await;
    }
    panic!("waited in vain until {what}");
}

/// A socket anybody may connect to, in a directory of its own.
pub struct Host {
    pub dir: tempfile::TempDir,
    listener: UnixListener,
}

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        open_to_all(&dir.path().join("s"));
        Self { dir, listener }
    }
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }
    pub fn accept(&self) -> UnixStream {
        self.listener.accept().unwrap().0
    }
    /// A child that has connected, and the server's end of its connection.
    pub fn child(&self) -> (Child, UnixStream) {
        let child = Child::start(Command::new(this_binary()), "connect_and_obey", &self.socket());
        (child, self.accept())
    }
    /// A copy of this binary under another name, which other uids may run.
    pub fn copy(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        run(Command::new("cp").arg(this_binary()).arg(&path));
        open_to_all(&path);
        path
    }
}

/// Runs a command to its success. What is executed later is written by such commands: a descriptor open for writing in
/// this process would be inherited by children that other tests start meanwhile, and a file so open cannot be executed.
pub fn run(command: &mut Command) {
    assert!(command.status().unwrap().success());
}

/// Appends `text` to what will be executed.
pub fn append(path: &Path, text: &str) {
    run(Command::new("sh").args(["-c", "printf '%s' \"$2\" >> \"$1\"", "sh"]).arg(path).arg(text));
}

pub fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}

pub fn this_binary() -> PathBuf {
    std::env::current_exe().unwrap()
}

pub fn witness(mode: PeerPidfd) -> Witness {
    Witness::open(mode).unwrap()
}

pub fn pinned(stream: &UnixStream) -> PinnedCaller {
    witness(PeerPidfd::Auto).pin(stream).unwrap()
}

/// A process in one of the roles of `roles.rs`. Ended, and waited for, when dropped.
pub struct Child {
    process: std::process::Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Child {
    /// `command` is this binary or something that runs it with the arguments it is given.
    pub fn start(mut command: Command, role: &str, socket: &Path) -> Self {
        Self::start_if_possible(&mut command, role, socket).expect("the child says that it is ready")
    }

    /// `None` when the child ends before it is ready: the machine does not allow what `command` does first.
    pub fn start_if_possible(command: &mut Command, role: &str, socket: &Path) -> Option<Self> {
        command.args(["--exact", &format!("parts::roles::{role}"), "--ignored", "--nocapture"]).env(SOCKET, socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut child = Self { process, orders, answers };
        child.answer("ready").map(|_| child)
    }

    pub fn pid(&self) -> i32 {
        self.process.id().try_into().unwrap()
    }

    /// Gives an order and returns what it answers after the word `done`.
    pub fn order(&mut self, order: &str) -> String {
        self.tell(order);
        self.answer("done").expect("an answer")
    }

    /// Gives an order that is not answered.
    pub fn tell(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }

    pub fn answer(&mut self, word: &str) -> Option<String> {
        let mut line = String::new();
        while self.answers.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once(&format!("@{word}")) {
                return Some(rest.trim().to_string());
            }
            line.clear();
        }
        None
    }

    /// Waits for its exit and takes it off the process table.
    pub fn reap(&mut self) {
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Whether a child has exited, without reaping it.
pub fn is_dead(pid: i32) -> bool {
    let stat = witness(PeerPidfd::Auto).dir(pid).and_then(|d| d.as_dir().stat());
    stat.map_or(true, |s| s.is_dead())
}
