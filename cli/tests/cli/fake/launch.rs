//! The launch socket: one JSON message per packet, the first with the descriptor of CMD.

use super::Shared;
use nix::{
    cmsg_space,
    sys::socket::{
        AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, listen,
        recvmsg, send, socket,
    },
};
use proto_types::launch::{LaunchReply, LaunchRequest, MAX_MESSAGE};
use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};

pub fn serve(shared: Arc<Shared>) -> JoinHandle<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&shared.launch_socket()).unwrap()).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    tokio::task::spawn_blocking(move || while accepted(&listener, &shared) {});
    tokio::spawn(std::future::pending())
}
