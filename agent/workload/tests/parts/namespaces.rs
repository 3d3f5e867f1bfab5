//! Peers and agents in namespaces of their own. Where the machine forbids making them, the tests say so.

use super::support::{Child, Host, PROC, is_root, pinned, skipped, this_binary};
use agent_core::Caller;
use agent_workload::{PeerPidfd, Witness};
use std::{os::unix::net::UnixStream, process::Command};

/// This binary in a PID namespace of its own, with its `/proc`; where there is no root, in a user namespace too.
fn in_pid_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg(this_binary());
    command
}

#[tokio::test]
async fn g02_a_number_used_again_is_not_the_peer() {
    let host = Host::new();
    let ran = Child::start_if_possible(&mut in_pid_namespace(), "reuse_a_pid", &host.dir.path().join("inner"));
    if ran.is_none() {
        assert!(!is_root(), "root may make a PID namespace and set its last pid");
        skipped("no PID namespace may be made here");
    }
}

#[tokio::test]
async fn g07_a_peer_outside_the_agents_pid_namespace_is_refused_and_one_inside_is_pinned() {
    let host = Host::new();
    let socket = host.dir.path().join("inner");
    let Some(mut agent) = Child::start_if_possible(&mut in_pid_namespace(), "listen_and_pin", &socket) else {
        return skipped("no PID namespace may be made here");
    };
    let _outside = UnixStream::connect(&socket).unwrap();
    assert_eq!(agent.order("other"), "OtherPidNamespace");
    assert_eq!(agent.order("own"), "pinned 0");
}

#[tokio::test]
async fn g07_a_peer_in_a_namespace_below_is_pinned_by_its_number_here() {
    let host = Host::new();
    let child = Child::start_if_possible(&mut in_pid_namespace(), "connect_and_obey", &host.socket());
    let Some(_child) = child else { return skipped("no PID namespace may be made here") };
    let caller = pinned(&host.accept());
    assert!(caller.pid() > 1, "it calls itself 1");
    assert_eq!(caller.uid(), nix::unistd::getuid().as_raw());
    caller.recheck().unwrap();
}

/// An unprivileged uid, in a user namespace in which it is 0.
fn as_false_root(host: &Host) -> (Command, u32) {
    let uid = if is_root() { 1000 } else { nix::unistd::getuid().as_raw() };
    let mut command = Command::new(if is_root() { "setpriv" } else { "unshare" });
    if is_root() {
        command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "unshare"]);
    }
    command.args(["--user", "--map-root-user"]).arg(host.copy("peer"));
    (command, uid)
}

#[tokio::test]
async fn g09_root_in_a_user_namespace_is_who_it_is_outside() {
    let host = Host::new();
    let (mut command, uid) = as_false_root(&host);
    let Some(_child) = Child::start_if_possible(&mut command, "connect_and_obey", &host.socket()) else {
        return skipped("no user namespace may be made here");
    };
    let caller = pinned(&host.accept());
    assert_eq!(caller.uid(), uid);
    caller.recheck().unwrap();
}

#[tokio::test]
async fn g09_a_peer_without_a_number_in_the_agents_user_namespace_is_refused() {
    if !is_root() {
        return skipped("a second uid needs root");
    }
    let host = Host::new();
    let (mut command, _) = as_false_root(&host);
    let socket = host.dir.path().join("inner");
    let Some(mut agent) = Child::start_if_possible(&mut command, "listen_and_pin", &socket) else {
        return skipped("no user namespace may be made here");
    };
    let _stranger = UnixStream::connect(&socket).unwrap();
    assert!(agent.order("other").starts_with("Unmapped"));
    assert_eq!(agent.order("own"), "pinned 0");
}

#[tokio::test]
async fn g10_a_peer_that_proc_hides_is_refused() {
    if !is_root() {
        return skipped("mounting /proc with hidepid needs root");
    }
    for (hidepid, said) in [("invisible", "Proc Gone"), ("noaccess", "Proc Io")] {
        let host = Host::new();
        let (at, socket, agent) = (host.dir.path().join("proc"), host.dir.path().join("inner"), host.copy("agent"));
        std::fs::create_dir(&at).unwrap();
        let script = format!(
            "mount -t proc -o hidepid={hidepid} proc \"$1\" && shift && exec setpriv --reuid 1000 --regid 1000 --clear-groups \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(&at).arg(agent).env(PROC, &at);
        let mut agent = Child::start(command, "listen_and_pin", &socket);
        let _hidden = UnixStream::connect(&socket).unwrap();
        let answer = agent.order("other");
        assert!(answer.starts_with(said), "{hidepid}: {answer}");
        assert_eq!(agent.order("own"), "pinned 1000");
    }
}

#[tokio::test]
async fn g10_the_proc_of_another_pid_namespace_is_refused() {
    if !is_root() {
        return skipped("a PID namespace without a /proc of its own needs root");
    }
    let host = Host::new();
    let socket = host.dir.path().join("inner");
    let mut command = Command::new("unshare");
    // The outer /proc stays mounted where it was; the agent is inside.
    command.args(["--pid", "--fork", "--kill-child", "--mount"]).arg(this_binary()).env(PROC, "/proc");
    let mut agent = Child::start(command, "listen_and_pin", &socket);
    assert!(agent.order("own").contains("another PID namespace"));
    assert!(Witness::open(PeerPidfd::Auto).is_ok());
}
