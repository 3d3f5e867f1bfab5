//! What CMD is, and what it notices of `errand run`: nothing but its credentials.

use crate::fake::{Fake, Script, TASK, finish, spawn};
use std::{os::unix::fs::PermissionsExt, process::Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn the_exit_status_is_the_commands() {
    let fake = Fake::start(Script::default()).await;
    for status in [0, 1, 3, 125, 255] {
        let finished = finish(fake.shell(&format!("exit {status}"))).await;
        assert_eq!((finished.status, finished.stderr.as_str()), (status, ""));
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ends_gives_128_and_the_signal() {
    let fake = Fake::start(Script::default()).await;
    assert_eq!(finish(fake.shell("kill -TERM $$")).await.status, 143);
    assert_eq!(finish(fake.shell("kill -KILL $$")).await.status, 137);
}

#[tokio::test]
async fn standard_input_and_output_are_the_commands_alone() {
    let fake = Fake::start(Script::default()).await;
    let mut command = fake.run(&["cat"]);
    command.stdin(Stdio::piped());
    let mut errand = spawn(command);
    let mut input = errand.stdin.take().unwrap();
    let mut output = errand.stdout.take().unwrap();
    input.write_all(b"one\n").await.unwrap();
    let mut echoed = [0; 4];
    output.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"one\n");
    input.write_all(b"two\n").await.unwrap();
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "two\n");
    assert_eq!(errand.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_commands_output_ends_when_the_command_closes_it() {
    let fake = Fake::start(Script::default()).await;
    // Closed by CMD while CMD lives on: a copy kept by `errand run` would keep the pipe open.
    let mut errand = spawn(fake.shell("echo all; exec >&-; read line < fifo"));
    nix::unistd::mkfifo(&fake.dir().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut text = String::new();
    errand.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "all\n");
    assert!(errand.try_wait().unwrap().is_none());
    tokio::fs::write(fake.dir().join("fifo"), "go\n").await.unwrap();
    assert_eq!(errand.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_command_sees_its_name_as_it_was_typed() {
    let fake = Fake::start(Script::default()).await;
    let finished = finish(fake.run(&["cat", "/proc/self/cmdline"])).await;
    assert_eq!(finished.stdout, "cat\0/proc/self/cmdline\0");
}

#[tokio::test]
async fn the_command_is_a_child_in_the_same_process_group_and_knows_its_task() {
    let fake = Fake::start(Script::default()).await;
    let finished = finish(fake.shell("echo $ERRAND_TASK_ID $PPID; cut -d' ' -f5 /proc/$PPID/stat /proc/$$/stat")).await;
    let words: Vec<&str> = finished.stdout.split_whitespace().collect();
    assert_eq!(words[0], TASK);
    assert_eq!(words[2], words[3], "one process group");
    assert_eq!(fake.seen().roots.len(), 1);
}

#[tokio::test]
async fn what_was_measured_is_what_is_executed() {
    let fake = Fake::start(Script::default()).await;
    let finished = finish(fake.shell("readlink /proc/$$/exe")).await;
    let seen = fake.seen();
    assert_eq!(&seen.measured[0][..4], b"\x7fELF");
    assert_eq!(seen.executed[0].as_ref().unwrap().to_str().unwrap(), finished.stdout.trim_end());
    assert_eq!(seen.starts[0].launch_id, "launch-1");
}

#[tokio::test]
async fn a_script_runs_through_its_interpreter_with_its_arguments() {
    let fake = Fake::start(Script::default()).await;
    let path = fake.dir().join("greet");
    std::fs::write(&path, "#!/bin/sh\necho \"hello $1 and $2\"\nexit 5\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let finished = finish(fake.run(&["./greet", "you", "the rest"])).await;
    assert_eq!((finished.status, finished.stdout.as_str()), (5, "hello you and the rest\n"));
    assert_eq!(&fake.seen().measured[0][..2], b"#!");
}

#[tokio::test]
async fn an_ignored_hangup_stays_ignored_for_the_command_and_a_pipe_does_not() {
    let fake = Fake::start(Script::default()).await;
    let script = "trap '' HUP; exec \"$0\" run --grant orders-db/readonly -- grep SigIgn /proc/self/status";
    let mut command = fake.errand(&[]);
    let errand = command.as_std().get_program().to_os_string();
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", script]).arg(errand).env_clear().current_dir(fake.dir());
    for (name, value) in command.kill_on_drop(true).as_std().get_envs() {
        shell.env(name, value.unwrap());
    }
    let mask = finish(shell).await.stdout;
    let mask = u64::from_str_radix(mask.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(mask & 1, 1, "SIGHUP is ignored");
    assert_eq!(mask >> 12 & 1, 0, "SIGPIPE is not");
}
