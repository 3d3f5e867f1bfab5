//! A process that holds secrets and crashes leaves no core, wherever the machine would put one; what it started may.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    process::{Command, Stdio},
};
use tests::world::{World, written};

/// The row of `/proc/PID/limits`.
fn limit(pid: impl std::fmt::Display) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    limits.lines().find(|l| l.starts_with("Max core file size")).unwrap().split_whitespace().collect::<Vec<_>>()[4..6]
        .join(" ")
}

/// Whether a process of this machine that crashes, and minds nothing, dumps a core.
fn others_dump() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut crash = Command::new("sh");
    crash.args(["-c", "kill -ABRT $$"]).current_dir(dir.path()).stderr(Stdio::null());
    crash.status().unwrap().core_dumped()
}

#[tokio::test]
async fn what_holds_secrets_leaves_no_core_and_what_it_started_may() {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    // As much as this machine allows: of this process and so of all that it starts.
    setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
    let mut world = World::of_processes().await;
    world.permits_everything().await;
    let [file, end] = ["shown", "end"].map(|name| world.layout.dir().join(name));
    let script = format!("echo $$ > {}; while ! [ -e {} ]; do sleep 0.05; done", file.display(), end.display());
    let run = world.run(["--intent", "x", "--", "sh", "-c", &script]).start();
    let command = written(&file).await;
    assert_eq!(limit(&command), limit("self"), "the command has what it was started with");
    let none = if hard == 0 { "0" } else { "1" };
    for pid in [run.pid, world.server.process().pid(), world.node.process().pid()] {
        assert!(limit(pid).starts_with(&format!("{none} ")), "{pid}: {}", limit(pid));
    }
    fs::write(&end, "").unwrap();
    run.finish().await.exited(0);

    // A daemon is not dumped even where somebody raised its limit, and nobody of its uid reads its memory. Where nothing
    // dumps, whatever it does, the crash shows nothing.
    let dumps = others_dump();
    for daemon in [world.server.process_mut(), world.node.process_mut()] {
        let pid = daemon.pid().to_string();
        let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--core={hard}:{hard}")]).status();
        assert!(raised.expect("prlimit of util-linux runs").success());
        assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0, "it is nobody's but root's");
        assert!(!daemon.crash(), "a core was dumped; others dump: {dumps}");
    }
}
