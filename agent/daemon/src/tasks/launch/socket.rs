//! SOCK_SEQPACKET with descriptors: one JSON message per packet, at most one descriptor with it.

use crate::local::path::{Bound, SocketPathError, reserve};
use proto_types::launch::{LaunchReply, LaunchRequest, MAX_MESSAGE};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, listen, recvmsg, send, socket_with,
};
use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// More than one is refused; room for some shows that they came.
const FD_ROOM: usize = 4;

/// A seqpacket socket: the listener, or one launcher's.
pub struct Seqpacket(AsyncFd<OwnedFd>);

/// Why a packet was not a request.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    #[error("a message has at most {MAX_MESSAGE} bytes and one descriptor")]
    TooMuch,
    #[error("the message is not one of this socket's requests")]
    Malformed,
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// Opens the launch socket, mode 0666: who may do what is decided by who connects.
pub fn bind(path: &Path) -> Result<(Seqpacket, Bound), SocketPathError> {
    let reserved = reserve(path)?;
    let fail = |e: io::Error| SocketPathError::io(path, "bind", &e);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = || -> io::Result<OwnedFd> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    };
    let socket = open().map_err(fail)?;
    let bound = reserved.bound(0o666)?;
    listen(&socket, BACKLOG).map_err(|e| fail(e.into()))?;
    Ok((Seqpacket(watched(socket).map_err(fail)?), bound))
}

impl Seqpacket {
    pub async fn accept(&self) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accept = |fd: &OwnedFd| accept_with(fd, flags).map_err(io::Error::from);
        let socket = self.0.async_io(Interest::READABLE, accept).await?;
        Ok(Self(watched(socket)?))
    }

    /// The next request and its descriptor. `None`: the other end is closed.
    pub async fn receive(&self) -> Result<Option<(LaunchRequest, Option<OwnedFd>)>, PacketError> {
        let (bytes, mut files, whole) = self.0.async_io(Interest::READABLE, |fd| packet(fd.as_fd())).await?;
        if bytes.is_empty() && files.is_empty() {
            return Ok(None);
        }
        if !whole || files.len() > 1 {
            return Err(PacketError::TooMuch);
        }
        let request = serde_json::from_slice(&bytes).map_err(|_| PacketError::Malformed)?;
        Ok(Some((request, files.pop())))
    }

    pub async fn send(&self, reply: &LaunchReply) -> io::Result<()> {
        let bytes = serde_json::to_vec(reply).map_err(io::Error::other)?;
        let put = |fd: &OwnedFd| send(fd, &bytes, SendFlags::NOSIGNAL).map_err(io::Error::from);
        self.0.async_io(Interest::WRITABLE, put).await.map(drop)
    }
}

impl AsFd for Seqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// Puts a socket under the runtime's watch.
#[expect(deprecated, reason = "the replacement is unsafe; an owned descriptor is what it wants proved")]
fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(socket)
}

/// One packet: its bytes, its descriptors (each closed unless it is taken), and whether all of it fitted.
fn packet(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>, bool)> {
    let mut bytes = vec![0u8; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FD_ROOM))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            files.extend(fds);
        }
    }
    let whole = !received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    bytes.truncate(received.bytes);
    Ok((bytes, files, whole))
}
