//! The launch socket: shows the agent the opened CMD, then the child that will execute it, then that it has.
//!
//! Decides nothing: the agent measures and accepts or refuses.

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, socket,
};
use proto_types::{
    Clock, TaskId,
    launch::{LaunchReply, LaunchRequest, MAX_MESSAGE},
};
use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};
use tokio::io::{Interest, unix::AsyncFd};

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("the agent's launch socket does not answer: {0}")]
    Unreachable(#[source] io::Error),
    #[error("the agent's launch socket sent what is no answer")]
    Garbled,
    #[error("the agent refuses to start CMD as a task: {0}")]
    Refused(String),
}

/// One connection, for one command.
#[derive(Debug)]
pub struct LaunchSocket {
    socket: AsyncFd<OwnedFd>,
}

impl LaunchSocket {
    pub fn connect(path: &Path) -> Result<Self, LaunchError> {
        let open = || -> io::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(fd)
        };
        let socket = open().and_then(super::sys::watched).map_err(LaunchError::Unreachable)?;
        Ok(Self { socket })
    }

    /// Has the opened command measured. Answers the launch id for `errand.v1.Task/Start`.
    pub async fn measure(&self, file: BorrowedFd<'_>, clock: &dyn Clock) -> Result<String, LaunchError> {
        match self.ask(&LaunchRequest::Measure, Some(file), clock).await? {
            LaunchReply::Measured { launch_id } => Ok(launch_id),
            LaunchReply::Refused { why } => Err(LaunchError::Refused(why)),
            LaunchReply::Accepted => Err(LaunchError::Garbled),
        }
    }

    /// Names the waiting child as the root of the task.
    pub async fn root(&self, task_id: TaskId, pid: i32, clock: &dyn Clock) -> Result<(), LaunchError> {
        self.accepted(&LaunchRequest::Root { task_id, pid }, clock).await
    }

    /// Has what the child runs compared with what was measured.
    pub async fn executed(&self, clock: &dyn Clock) -> Result<(), LaunchError> {
        self.accepted(&LaunchRequest::Executed, clock).await
    }

    async fn accepted(&self, request: &LaunchRequest, clock: &dyn Clock) -> Result<(), LaunchError> {
        match self.ask(request, None, clock).await? {
            LaunchReply::Accepted => Ok(()),
            LaunchReply::Refused { why } => Err(LaunchError::Refused(why)),
            LaunchReply::Measured { .. } => Err(LaunchError::Garbled),
        }
    }

    async fn ask(
        &self,
        request: &LaunchRequest,
        file: Option<BorrowedFd<'_>>,
        clock: &dyn Clock,
    ) -> Result<LaunchReply, LaunchError> {
        let conversation = async {
            let message = serde_json::to_vec(request).map_err(io::Error::from)?;
            let fds: Vec<_> = file.iter().map(AsRawFd::as_raw_fd).collect();
            self.socket.async_io(Interest::WRITABLE, |socket| send(socket, &message, &fds)).await?;
            self.socket.async_io(Interest::READABLE, receive).await
        };
        let late = || Err(io::ErrorKind::TimedOut.into());
        let answer = crate::agent_client::within(clock, crate::agent_client::ANSWER, conversation).await;
        let bytes = answer.unwrap_or_else(late).map_err(LaunchError::Unreachable)?;
        serde_json::from_slice(&bytes).map_err(|_| LaunchError::Garbled)
    }
}

fn send(socket: &OwnedFd, message: &[u8], fds: &[i32]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], rights, flags, None)?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT)?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(length);
    Ok(bytes)
}
