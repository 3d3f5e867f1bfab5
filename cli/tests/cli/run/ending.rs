//! How a task ends with its command, and a command lives on without its task.

use crate::fake::{Fake, SOON, Script, TASK, finish, spawn};
use std::{path::Path, time::Duration};
use testkit::poll::until;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

#[tokio::test]
async fn the_task_is_completed_once_when_the_command_exits_whatever_its_status() {
    let fake = Fake::start(Script::default()).await;
    finish(fake.shell("exit 0")).await;
    finish(fake.shell("exit 9")).await;
    let seen = fake.seen();
    assert_eq!(seen.completed, [TASK, TASK]);
    assert!(seen.revoked.is_empty());
}

/// CMD prints its directory, then waits for the fifo.
async fn waiting(fake: &Fake) -> (tokio::process::Child, String) {
    nix::unistd::mkfifo(&fake.dir().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut errand = spawn(fake.shell("echo $ERRAND_DIR; read line < fifo; echo still here"));
    let mut lines = BufReader::new(errand.stdout.as_mut().unwrap()).lines();
    let dir = lines.next_line().await.unwrap().unwrap();
    (errand, dir)
}

async fn lives_on_without_credentials(fake: &Fake, mut errand: tokio::process::Child, dir: &str, reason: &str) {
    until("the directory is gone", SOON, || async { !Path::new(dir).exists() }).await;
    tokio::fs::write(fake.dir().join("fifo"), "go\n").await.unwrap();
    assert_eq!(errand.wait().await.unwrap().code(), Some(0));
    let mut said = String::new();
    errand.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert!(said.contains(reason) && said.lines().count() == 1, "{said}");
    assert!(fake.seen().completed.is_empty(), "nothing is left to complete");
}

#[tokio::test]
async fn a_revoked_task_takes_its_credentials_and_not_the_command() {
    let fake = Fake::start(Script::default()).await;
    let (errand, dir) = waiting(&fake).await;
    fake.end_task("revoked").await;
    lives_on_without_credentials(&fake, errand, &dir, "revoked").await;
}

#[tokio::test]
async fn at_the_deadline_the_command_lives_and_its_credentials_do_not() {
    let fake = Fake::start(Script { task_ttl: Duration::from_secs(2), ..Script::default() }).await;
    let (errand, dir) = waiting(&fake).await;
    lives_on_without_credentials(&fake, errand, &dir, "deadline").await;
}
