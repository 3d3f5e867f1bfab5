//! Signals: sent to `errand run` they reach CMD, typed at a terminal they reach CMD once.

use crate::fake::{Fake, SOON, Script, finish, spawn};
use nix::{
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::process::Stdio;
use testkit::poll::until;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

/// Says `ready`, then exits with a status of its own on the first of these signals.
const TRAPS: &str = "trap 'exit 11' HUP; trap 'exit 12' INT; trap 'exit 13' QUIT; trap 'exit 14' TERM; \
                     trap 'exit 15' USR1; trap 'exit 16' USR2; echo ready; while :; do sleep 0.02; done";

/// The same command with the signals of a login shell, in a process group of its own: whoever runs the tests may ignore
/// hangups and interrupts, or have left their group an orphan, whose members the kernel does not stop.
fn as_from_a_shell(errand: Command) -> Command {
    let errand = errand.as_std();
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT,TERM,USR1,USR2,TSTP").arg(errand.get_program()).args(errand.get_args());
    command.env_clear().process_group(0).kill_on_drop(true);
    if let Some(dir) = errand.get_current_dir() {
        command.current_dir(dir);
    }
    for (name, value) in errand.get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

/// Its exit status, soon.
async fn status(errand: &mut Child) -> Option<i32> {
    tokio::time::timeout(SOON, errand.wait()).await.expect("it ends").unwrap().code()
}

fn pid(errand: &Child) -> Pid {
    Pid::from_raw(i32::try_from(errand.id().unwrap()).unwrap())
}

async fn ready(errand: &mut Child) {
    let line = BufReader::new(errand.stdout.as_mut().unwrap()).lines().next_line().await.unwrap();
    assert_eq!(line.as_deref(), Some("ready"));
}

#[tokio::test]
async fn signals_sent_to_errand_run_reach_the_command() {
    let fake = Fake::start(Script::default()).await;
    let signals = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
    for (signal, status) in signals.into_iter().zip(11..) {
        let mut errand = spawn(as_from_a_shell(fake.shell(TRAPS)));
        ready(&mut errand).await;
        kill(pid(&errand), signal).unwrap();
        assert_eq!(self::status(&mut errand).await, Some(status), "{signal}");
    }
}

#[tokio::test]
async fn a_signal_before_the_command_runs_ends_the_preparations() {
    let fake = Fake::start(Script { silent: true, ..Script::default() }).await;
    let mut errand = spawn(fake.shell("touch ran"));
    until("the exchange is under way", SOON, || async { !fake.seen().exchanges.is_empty() }).await;
    kill(pid(&errand), Signal::SIGTERM).unwrap();
    assert_eq!(status(&mut errand).await, Some(143));
    assert_eq!(fake.seen().revoked.len(), 1, "the task is taken back");
    assert!(!fake.dir().join("ran").exists());
}

#[tokio::test]
async fn a_stop_stops_the_command_and_errand_run_and_both_continue() {
    let fake = Fake::start(Script::default()).await;
    let mut errand = spawn(as_from_a_shell(fake.shell(TRAPS)));
    ready(&mut errand).await;
    let root = fake.seen().roots[0];
    kill(pid(&errand), Signal::SIGTSTP).unwrap();
    until("CMD is stopped", SOON, || async { state(root) == 'T' }).await;
    kill(pid(&errand), Signal::SIGCONT).unwrap();
    until("CMD goes on", SOON, || async { state(root) != 'T' }).await;
    kill(pid(&errand), Signal::SIGUSR1).unwrap();
    assert_eq!(status(&mut errand).await, Some(15));
}

fn state(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
}

#[tokio::test]
async fn a_key_at_the_terminal_reaches_the_command_exactly_once() {
    let fake = Fake::start(Script::default()).await;
    let pty = openpty(None, None).unwrap();
    // A second SIGINT would exit with the second status.
    let script = "n=0; trap 'n=$((n+1))' INT; touch up; while [ $n = 0 ]; do sleep 0.02; done; \
                  sleep 0.3; exit $((20+n))";
    let errand = fake.shell(script);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(errand.as_std().get_program()).args(errand.as_std().get_args());
    command.env_clear().current_dir(fake.dir()).kill_on_drop(true);
    for (name, value) in errand.as_std().get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdin(Stdio::from(pty.slave.try_clone().unwrap())).stdout(Stdio::null()).stderr(Stdio::null());
    let mut session = command.spawn().unwrap();
    until("CMD runs", SOON, || async { fake.dir().join("up").exists() }).await;
    nix::unistd::write(&pty.master, b"\x03").unwrap();
    let status = tokio::time::timeout(SOON, session.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(21));
}

#[tokio::test]
async fn a_background_command_of_a_script_that_ignores_interrupts_goes_on_ignoring_them() {
    let fake = Fake::start(Script::default()).await;
    let errand = fake.shell("kill -INT $$; echo survived");
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' INT; exec \"$@\"", "sh"]).arg(errand.as_std().get_program());
    shell.args(errand.as_std().get_args()).env_clear().current_dir(fake.dir());
    for (name, value) in errand.as_std().get_envs() {
        shell.env(name, value.unwrap());
    }
    let finished = finish(shell).await;
    assert_eq!((finished.status, finished.stdout.as_str()), (0, "survived\n"));
}

#[tokio::test]
async fn nothing_of_errand_run_is_left_when_it_exits() {
    let fake = Fake::start(Script::default()).await;
    let mut errand = spawn(fake.shell("echo $PPID"));
    let mut text = String::new();
    errand.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    errand.wait().await.unwrap();
    assert_eq!(watchdogs_of(text.trim()), 0);
}

/// Processes whose parent is `pid`.
fn watchdogs_of(pid: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let stats = processes.filter_map(|p| std::fs::read_to_string(p.path().join("stat")).ok());
    stats.filter(|stat| stat[stat.rfind(')').unwrap() + 2..].split(' ').nth(1) == Some(pid)).count()
}
