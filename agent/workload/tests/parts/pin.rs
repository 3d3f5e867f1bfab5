//! Pinning the peer of a socket.

use super::support::{Host, MODES, is_dead, is_root, pinned, skipped, until, witness};
use agent_core::{Caller, CallerError, membership::ProcKey};
use agent_workload::{PeerPidfd, PinError, Witness};
use std::{
    future::Future,
    io::Read,
    pin::pin,
    task::{Context, Poll, Waker},
};

#[tokio::test]
async fn g18_a_living_peer_is_pinned_in_either_way_with_the_same_facts() {
    let host = Host::new();
    let (child, stream) = host.child();
    let callers = MODES.map(|mode| witness(mode).pin(&stream).unwrap());
    for caller in &callers {
        assert_eq!(caller.pid(), child.pid());
        assert_eq!(caller.uid(), nix::unistd::getuid().as_raw());
        assert_eq!(caller.gid(), nix::unistd::getgid().as_raw());
        assert!(caller.start_time() > 0 && caller.program().is_some());
        caller.recheck().unwrap();
    }
    assert_eq!(callers[0].key(), callers[1].key());
    let again = witness(PeerPidfd::Auto).pin_again(callers[0].key()).unwrap();
    assert_eq!(again.key(), callers[0].key());
    let other = ProcKey { start_time: callers[0].start_time() + 1, ..callers[0].key() };
    assert!(matches!(witness(PeerPidfd::Auto).pin_again(other), Err(PinError::Exited { .. })));
}

#[tokio::test]
async fn g17_a_dead_peer_is_refused_as_a_zombie_and_when_it_is_reaped() {
    for mode in MODES {
        let host = Host::new();
        let (mut child, stream) = host.child();
        let held = witness(mode).pin(&stream).unwrap();
        held.recheck().unwrap();
        let pid = child.pid();
        child.tell("exit");
        until("the child is a zombie", || is_dead(pid)).await;
        let refused = |caller: Result<_, PinError>| matches!(caller, Err(PinError::Exited { .. }));
        assert!(refused(witness(mode).pin(&stream)), "a zombie");
        assert_eq!(held.recheck(), Err(CallerError::Exited { pid }));
        child.reap();
        assert!(refused(witness(mode).pin(&stream)), "reaped");
        assert_eq!(held.recheck(), Err(CallerError::Exited { pid }));
        assert!(refused(witness(mode).pin_pid(pid)));
    }
}

#[tokio::test]
async fn g05_a_child_that_speaks_on_its_dead_parents_connection_is_refused() {
    let host = Host::new();
    let (mut child, mut stream) = host.child();
    let held = pinned(&stream);
    let borrower: i32 = child.order("lend").parse().unwrap();
    let mut said = [0u8; 5];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
    pinned(&stream).recheck().unwrap();
    child.tell("exit");
    child.reap();
    let pid = child.pid();
    assert!(!is_dead(borrower), "the connection is still open, in other hands");
    assert_eq!(witness(PeerPidfd::Auto).pin(&stream).unwrap_err(), PinError::Exited { pid });
    assert_eq!(held.recheck(), Err(CallerError::Exited { pid }));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(borrower), nix::sys::signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn g03_a_peer_that_becomes_another_program_is_noticed() {
    let host = Host::new();
    let (mut child, stream) = host.child();
    let held = pinned(&stream);
    held.recheck().unwrap();
    child.tell("exec sleep");
    let pid = child.pid();
    let changed = Err(CallerError::Changed { pid, what: "program" });
    until("the recheck fails", || held.recheck() == changed).await;
}

#[tokio::test]
async fn a_peer_with_several_identities_is_refused() {
    if !is_root() {
        return skipped("changing one of four uids needs root");
    }
    for (order, what, said) in [("setuid", "uid", "uid or gid"), ("setgid", "gid", "uid or gid")] {
        for mode in MODES {
            let host = Host::new();
            let (mut child, stream) = host.child();
            let held = witness(mode).pin(&stream).unwrap();
            child.order(order);
            let pid = child.pid();
            assert_eq!(witness(mode).pin(&stream).unwrap_err(), PinError::Identity { pid, what });
            assert_eq!(held.recheck(), Err(CallerError::Changed { pid, what: said }));
            // One that connects as what it then is has one identity in the kernel's eyes but several of its own.
            assert!(matches!(witness(mode).pin_pid(pid), Err(PinError::Identity { .. })));
        }
    }
}

#[tokio::test]
async fn g08_a_thread_is_not_a_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        stopped.recv().ok();
    });
    let tid = told.recv().unwrap();
    for mode in MODES {
        assert!(matches!(witness(mode).pin_pid(tid), Err(PinError::Thread { .. })));
        assert!(witness(mode).pin_pid(nix::unistd::getpid().as_raw()).is_ok());
        for nobody in [0, -1, i32::MIN, i32::MAX] {
            assert!(witness(mode).pin_pid(nobody).is_err());
        }
    }
    drop(stop);
    thread.join().unwrap();
}

#[tokio::test]
async fn g10_a_missing_or_false_proc_is_refused_at_start() {
    let empty = tempfile::tempdir().unwrap();
    assert!(Witness::at(empty.path(), PeerPidfd::Auto).unwrap_err().to_string().contains("not a proc file system"));
    assert!(Witness::at(&empty.path().join("none"), PeerPidfd::Auto).is_err());
    assert!(Witness::open(PeerPidfd::Auto).is_ok());
}

#[tokio::test]
async fn g11_a_hostile_command_name_moves_no_field() {
    let host = Host::new();
    let (mut child, stream) = host.child();
    let before = pinned(&stream);
    for name in [") R 1 (", "a) Z 0 0 0 0", "(((((", "\n1 (x) Z 1"] {
        child.order(&format!("rename {}", name.replace('\n', " ")));
        let caller = pinned(&stream);
        assert_eq!(caller.key(), before.key(), "{name}");
        caller.recheck().unwrap();
    }
}

#[tokio::test]
async fn the_end_of_a_process_is_told_once_it_happens_and_not_before() {
    let host = Host::new();
    for mode in MODES {
        let (mut child, stream) = host.child();
        let caller = witness(mode).pin(&stream).unwrap();
        let mut gone = pin!(caller.exited().unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(gone.as_mut().poll(&mut cx), Poll::Pending));
        child.tell("exit");
        drop(caller);
        gone.await;
        assert!(is_dead(child.pid()));
    }
}
