//! `errand run` killed with SIGKILL: its second process removes the directory and ends CMD.

use crate::fake::{Fake, SOON, Script, spawn};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::path::{Path, PathBuf};
use testkit::poll::until;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

/// Starts `script`, which must print `$ERRAND_DIR` first; answers once it has.
async fn running(fake: &Fake, script: &str) -> (Child, PathBuf, i32) {
    let mut errand = spawn(fake.shell(script));
    let line = BufReader::new(errand.stdout.as_mut().unwrap()).lines().next_line().await.unwrap().unwrap();
    let root = fake.seen().roots[0];
    (errand, PathBuf::from(line), root)
}

fn is_gone(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat[stat.rfind(')').unwrap() + 2..].starts_with('Z'),
        Err(_) => true,
    }
}

async fn kill_and_expect_nothing_left(mut errand: Child, dir: &Path, root: i32) {
    assert!(dir.join("pgpass").exists());
    kill(Pid::from_raw(i32::try_from(errand.id().unwrap()).unwrap()), Signal::SIGKILL).unwrap();
    errand.wait().await.unwrap();
    until("the directory is removed", SOON, || async { !dir.exists() }).await;
    until("CMD is ended", SOON, || async { is_gone(root) }).await;
}

#[tokio::test]
async fn a_killed_errand_run_leaves_neither_credentials_nor_its_command() {
    let fake = Fake::start(Script::default()).await;
    let (errand, dir, root) = running(&fake, "echo $ERRAND_DIR; exec sleep 1000").await;
    kill_and_expect_nothing_left(errand, &dir, root).await;
}

#[tokio::test]
async fn a_command_may_clean_up_before_it_is_ended() {
    let fake = Fake::start(Script::default()).await;
    let script = "trap 'touch cleaned; exit' TERM; echo $ERRAND_DIR; while :; do sleep 0.02; done";
    let (errand, dir, root) = running(&fake, script).await;
    kill_and_expect_nothing_left(errand, &dir, root).await;
    assert!(fake.dir().join("cleaned").exists());
}

#[tokio::test]
async fn a_command_that_ignores_the_request_is_killed() {
    let fake = Fake::start(Script::default()).await;
    let (errand, dir, root) = running(&fake, "trap '' TERM; echo $ERRAND_DIR; while :; do sleep 1; done").await;
    kill_and_expect_nothing_left(errand, &dir, root).await;
}

#[tokio::test]
async fn killed_while_it_prepares_it_leaves_no_process() {
    let fake = Fake::start(Script { silent: true, ..Script::default() }).await;
    let mut errand = spawn(fake.shell("touch ran"));
    until("the exchange is under way", SOON, || async { !fake.seen().exchanges.is_empty() }).await;
    let pid = i32::try_from(errand.id().unwrap()).unwrap();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(children.len(), 1, "the second process");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    errand.wait().await.unwrap();
    until("it is gone too", SOON, || async { children.iter().all(|pid| is_gone(*pid)) }).await;
    assert!(!fake.dir().join("ran").exists());
}
