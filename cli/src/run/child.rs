//! CMD before and at its exec: forked, waiting, then executed. What it becomes after that is [`super::process::Child`].

use super::{
    command::Found,
    failure::{Failure, NOT_EXECUTABLE, NOT_FOUND},
    process::Child,
    surroundings::Variables,
    sys::{self, Forked, Image},
};
use crate::cores::CoreLimit;
use nix::errno::Errno;
use std::{
    ffi::{CString, OsString},
    io::{self, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt, unix::ffi::OsStringExt},
    sync::mpsc,
};
use tokio::sync::oneshot;

/// Forked and waiting. Dropped, it exits without having executed anything.
#[derive(Debug)]
pub struct Waiting {
    child: Child,
    gate: OwnedFd,
    executed: oneshot::Receiver<Option<Errno>>,
    held: Held,
}

/// CMD has executed and stands before its first instruction, so that nothing of it is over before it was looked at.
/// Dropped, it runs.
#[derive(Debug)]
pub struct Held {
    _release: mpsc::Sender<()>,
}

/// The file, the arguments and the variables as the kernel takes them.
pub fn image(found: Found, argv: &[OsString], env: Variables, cores: Option<CoreLimit>) -> Result<Image, Failure> {
    let text = |bytes: Vec<u8>| {
        CString::new(bytes).map_err(|_| Failure::own("an argument or a variable for CMD holds a zero byte"))
    };
    let argv = argv.iter().map(|arg| text(arg.as_bytes().to_vec())).collect::<Result<_, _>>()?;
    let env = env.into_iter().map(|(name, value)| {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend(value.into_vec());
        text(line)
    });
    let env = env.collect::<Result<_, _>>()?;
    Ok(Image {
        path: text(found.path.into_os_string().into_vec())?,
        hold: !found.privileged,
        file: found.file,
        argv,
        env,
        cores,
    })
}

impl Waiting {
    pub fn fork(image: Image) -> io::Result<Self> {
        let Forked { pid, gate, executed, release } = sys::fork_waiting(image)?;
        Ok(Self { child: Child::new(pid)?, gate, executed, held: Held { _release: release } })
    }

    pub fn pid(&self) -> i32 {
        self.child.pid().as_raw()
    }

    /// Lets it execute, and waits until it has or could not.
    pub async fn execute(self, name: &str) -> Result<(Child, Held), Failure> {
        let Self { mut child, gate, executed, held } = self;
        // A child that was killed while it waited cannot read it; its end is seen below.
        let _ = std::fs::File::from(gate).write_all(b"!");
        match executed.await {
            Ok(None) => Ok((child, held)),
            Ok(Some(errno)) => {
                drop(held);
                let _ = child.exited().await;
                Err(not_executed(errno, name))
            }
            Err(_) => Err(Failure::own("CMD's start cannot be followed")),
        }
    }
}

fn not_executed(errno: Errno, name: &str) -> Failure {
    match errno {
        Errno::ENOENT => Failure::command(NOT_FOUND, format!("{name}: its interpreter is not there"))
            .hint("look at the first line of the script, and that /proc is mounted"),
        Errno::ENOEXEC => Failure::command(NOT_EXECUTABLE, format!("{name}: not a program for this machine"))
            .hint("a script needs a first line such as #!/bin/sh"),
        Errno::E2BIG => Failure::command(NOT_EXECUTABLE, format!("{name}: its arguments and variables are too long")),
        other => Failure::command(NOT_EXECUTABLE, format!("{name} cannot be executed: {}", other.desc())),
    }
}

/// Standard input and output are CMD's alone: held open here, a pipe's other end would not see CMD close them.
pub fn let_go_of_stdio() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
    }
}
