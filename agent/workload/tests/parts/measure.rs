//! Commands measured before they run, and compared with what then runs.

use super::support::{Child, Host, append, open_to_all, this_binary, until, witness};
use agent_workload::{Hasher, PeerPidfd, hash::DEFAULT_LIMIT, measure, measure::MeasureError};
use proto_types::SystemClock;
use std::{
    io::{Seek, Write},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

fn hasher() -> Hasher {
    Hasher::new(Arc::new(SystemClock), DEFAULT_LIMIT)
}

fn opened(path: &Path) -> OwnedFd {
    std::fs::File::open(path).unwrap().into()
}

fn runs(measured: &agent_workload::Measured, pid: i32) -> bool {
    measured.is_run_by(&witness(PeerPidfd::Auto).dir(pid).unwrap())
}

#[tokio::test]
async fn a_command_is_the_file_that_runs_and_no_other() {
    let host = Host::new();
    let command = host.copy("command");
    let measured = measure(&hasher(), &opened(&command)).await.unwrap();
    assert_eq!(measured.path.as_deref(), command.to_str());
    let selectors: Vec<String> = measured.selectors().iter().map(ToString::to_string).collect();
    assert_eq!(selectors, [format!("cmd:path:{}", command.display()), format!("cmd:sha256:{}", measured.sha256)]);
    let child = Child::start(Command::new(&command), "connect_and_obey", &host.socket());
    assert!(runs(&measured, child.pid()));
    let (other, _stream) =
        (Child::start(Command::new(this_binary()), "connect_and_obey", &host.socket()), host.accept());
    assert!(!runs(&measured, other.pid()), "the same bytes in another file");
}

#[tokio::test]
async fn a_command_changed_between_measuring_and_running_is_noticed() {
    let host = Host::new();
    let command = host.copy("command");
    let measured = measure(&hasher(), &opened(&command)).await.unwrap();
    append(&command, "more");
    let child = Child::start(Command::new(&command), "connect_and_obey", &host.socket());
    assert!(!runs(&measured, child.pid()));
}

#[tokio::test]
async fn a_script_is_measured_with_its_interpreter_which_is_what_runs() {
    let host = Host::new();
    let script = host.dir.path().join("script");
    append(&script, "#!/bin/sh -e\nread x\n");
    open_to_all(&script);
    let measured = measure(&hasher(), &opened(&script)).await.unwrap();
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(measured.interpreter.as_ref().unwrap().path.as_deref(), shell.to_str());
    assert_eq!(measured.selectors().len(), 4);
    let mut child = Command::new(&script).stdin(Stdio::piped()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    until("the interpreter runs", || runs(&measured, pid)).await;
    child.kill().unwrap();
    child.wait().unwrap();

    std::fs::write(&script, format!("#!{}\n", host.dir.path().join("other").display())).unwrap();
    std::fs::write(host.dir.path().join("other"), "#!/bin/sh\n").unwrap();
    assert!(matches!(measure(&hasher(), &opened(&script)).await, Err(MeasureError::Nested { .. })));
    std::fs::write(&script, "#!/no/such\n").unwrap();
    assert!(matches!(measure(&hasher(), &opened(&script)).await, Err(MeasureError::Interpreter { .. })));
}

#[tokio::test]
async fn a_descriptor_of_anything_but_a_readable_regular_file_is_refused() {
    let (pipe, _writer) = nix::unistd::pipe().unwrap();
    assert!(measure(&hasher(), &pipe).await.is_err());
    assert!(measure(&hasher(), &opened(Path::new("/dev/zero"))).await.is_err());
    assert!(measure(&hasher(), &opened(Path::new("/tmp"))).await.is_err());

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"plain").unwrap();
    let measured = measure(&hasher(), &file.as_file().try_clone().unwrap().into()).await.unwrap();
    assert!(measured.path.is_some() && measured.interpreter.is_none());
    assert_eq!(file.stream_position().unwrap(), 5, "the offset is the opener's");
    let (file, path) = file.into_parts();
    path.close().unwrap();
    let deleted = measure(&hasher(), &file.into()).await.unwrap();
    assert_eq!((deleted.path, deleted.sha256), (None, measured.sha256));
}
