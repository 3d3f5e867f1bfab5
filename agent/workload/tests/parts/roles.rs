//! What the children do. Not tests of their own: each is started by a test, in a process of its own.

use super::support::{Child, MODES, PROC, SOCKET, skipped, this_binary, witness};
use agent_core::{Caller, CallerError};
use agent_workload::{PeerPidfd, PinError, Witness};
use std::{
    io::{BufRead, Write},
    os::{
        fd::OwnedFd,
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::PathBuf,
    process::{Command, Stdio, exit},
};

fn socket() -> Option<PathBuf> {
    std::env::var_os(SOCKET).map(Into::into)
}

fn say(word: &str, text: &str) {
    println!("@{word} {text}");
    std::io::stdout().flush().unwrap();
}

fn connect() -> UnixStream {
    UnixStream::connect(socket().unwrap()).unwrap()
}

/// Connects, then does what it is told on stdin.
#[test]
#[ignore = "a child of the other tests"]
#[expect(clippy::zombie_processes, reason = "the borrower is to outlive this process; the test ends it")]
fn connect_and_obey() {
    let Some(path) = socket() else { return };
    let mut open = vec![UnixStream::connect(&path).unwrap()];
    let mut children: Vec<Child> = Vec::new();
    say("ready", "");
    for order in std::io::stdin().lock().lines().map_while(Result::ok) {
        let (verb, rest) = order.split_once(' ').unwrap_or((&order, ""));
        match verb {
            "exit" => exit(0),
            "connect" => open.push(connect()),
            "exec" => panic!("{}", Command::new(rest).arg("30").stdin(Stdio::null()).exec()),
            "rename" => std::fs::write(format!("/proc/{}/comm", std::process::id()), rest).unwrap(),
            "setuid" => nix::unistd::setresuid(0.into(), 1000.into(), 0.into()).unwrap(),
            "setgid" => nix::unistd::setresgid(0.into(), 1000.into(), 0.into()).unwrap(),
            // A child that speaks on this process's own connection.
            "lend" => {
                let lent = OwnedFd::from(open[0].try_clone().unwrap());
                let speak = "echo hello >&0; exec sleep 30";
                let borrower =
                    Command::new("sh").args(["-c", speak]).stdin(lent).stdout(Stdio::null()).spawn().unwrap();
                say("done", &borrower.id().to_string());
                continue;
            }
            // A child that connects for itself and outlives this process.
            "bear" => {
                children.push(Child::start(Command::new(this_binary()), "connect_and_obey", &path));
                say("done", &children.last().unwrap().pid().to_string());
                continue;
            }
            other => panic!("no order `{other}`"),
        }
        say("done", "");
    }
    // Not back to the test harness, which would write to a pipe nobody reads any more.
    exit(0);
}

/// Is the agent, in a PID namespace of its own: pins whoever connects and says what came of it.
#[test]
#[ignore = "a child of the other tests"]
fn listen_and_pin() {
    let Some(path) = socket() else { return };
    let listener = UnixListener::bind(&path).unwrap();
    super::support::open_to_all(&path);
    let at = std::env::var_os(PROC).map_or("/proc".into(), PathBuf::from);
    let agent = Witness::at(&at, PeerPidfd::Auto);
    say("ready", "");
    for order in std::io::stdin().lock().lines().map_while(Result::ok) {
        let agent = match &agent {
            Ok(agent) => agent,
            Err(why) => {
                say("done", &why.to_string());
                continue;
            }
        };
        let own = (order == "own").then(connect);
        let stream = listener.accept().unwrap().0;
        let said = match agent.pin(&stream) {
            Ok(caller) => format!("pinned {}", caller.uid()),
            Err(PinError::Proc { why, .. }) => format!("Proc {why:?}"),
            Err(why) => format!("{why:?}"),
        };
        drop(own);
        say("done", &said);
    }
    exit(0);
}

/// In a PID namespace of its own: lets a number be used twice (G02).
#[test]
#[ignore = "a child of the other tests"]
fn reuse_a_pid() {
    let Some(path) = socket() else { return };
    let listener = UnixListener::bind(&path).unwrap();
    let mut first = Child::start(Command::new(this_binary()), "connect_and_obey", &path);
    let (early, pid) = (listener.accept().unwrap().0, first.pid());
    let held = witness(PeerPidfd::Auto).pin(&early).unwrap();
    first.order("connect");
    held.recheck().unwrap();
    first.tell("exit");
    first.reap();
    // Whoever has the number next; another uid where there is another.
    let has_two_uids = std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295");
    let mut second = successor(pid, has_two_uids);
    assert_eq!(held.recheck(), Err(CallerError::Exited { pid }));
    let late = listener.accept().unwrap().0;
    assert_eq!(witness(PeerPidfd::Auto).pin(&late).unwrap_err(), PinError::Exited { pid });
    if has_two_uids {
        let by_number = witness(PeerPidfd::ByNumber).pin(&late).unwrap_err();
        assert_eq!(by_number, PinError::Identity { pid, what: "uid" });
    } else {
        skipped("another uid under the same number needs root");
    }
    second.kill().unwrap();
    second.wait().unwrap();

    let living = Child::start(Command::new(this_binary()), "connect_and_obey", &path);
    let stream = listener.accept().unwrap().0;
    for mode in MODES {
        let caller = witness(mode).pin(&stream).unwrap();
        assert_eq!(caller.pid(), living.pid());
        caller.recheck().unwrap();
    }
    say("ready", "");
}

fn successor(pid: i32, other_uid: bool) -> std::process::Child {
    for _ in 0..200 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut command = Command::new("sleep");
        command.arg("30");
        if other_uid {
            command.uid(1000).gid(1000);
        }
        let mut child = command.spawn().unwrap();
        if i32::try_from(child.id()).unwrap() == pid {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("pid {pid} was never used again");
}
