//! The launch socket: one JSON message per packet, the first with the descriptor of CMD.

use super::Shared;
use nix::{
    cmsg_space,
    sys::socket::{
        AddressFamily, Backlog, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, accept4, bind,
        listen, recvmsg, send, shutdown, socket,
    },
    unistd::close,
};
use proto_types::launch::{LaunchReply, LaunchRequest, MAX_MESSAGE};
use std::{
    io::{IoSliceMut, Read},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
    thread::JoinHandle,
};

/// The listening socket and its thread; both end when dropped.
pub struct Launch {
    listener: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Launch {
    fn drop(&mut self) {
        // Wakes the thread out of accept.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

pub fn serve(shared: Arc<Shared>) -> Launch {
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&shared.launch_socket()).unwrap()).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    let listener = Arc::new(listener);
    let accepting = listener.clone();
    let thread = std::thread::spawn(move || {
        while let Ok(connection) = accept4(accepting.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let mut root = 0;
                while let Some((request, file)) = receive(connection) {
                    let reply = serde_json::to_vec(&answer(&shared, request, file, &mut root)).unwrap();
                    let _ = send(connection, &reply, MsgFlags::MSG_NOSIGNAL);
                }
                let _ = close(connection);
            });
        }
    });
    Launch { listener, thread: Some(thread) }
}

fn receive(connection: RawFd) -> Option<(LaunchRequest, Option<RawFd>)> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = cmsg_space!([RawFd; 1]);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(connection, &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    let file = message.cmsgs().ok()?.find_map(|c| match c {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let length = message.bytes;
    (length > 0).then(|| (serde_json::from_slice(&bytes[..length]).unwrap(), file))
}

fn answer(shared: &Shared, request: LaunchRequest, file: Option<RawFd>, root: &mut i32) -> LaunchReply {
    let script = shared.script.lock().unwrap().clone();
    let mut seen = shared.seen.lock().unwrap();
    match request {
        LaunchRequest::Measure => {
            let file = file.expect("the first message carries a descriptor");
            let mut head = Vec::new();
            std::fs::File::open(format!("/proc/self/fd/{file}")).unwrap().take(16).read_to_end(&mut head).unwrap();
            close(file).unwrap();
            seen.measured.push(head);
            LaunchReply::Measured { launch_id: "launch-1".into() }
        }
        LaunchRequest::Root { pid, .. } => {
            *root = pid;
            seen.roots.push(pid);
            script.refuse_root.map_or(LaunchReply::Accepted, |why| LaunchReply::Refused { why })
        }
        LaunchRequest::Executed => {
            let exe = std::fs::read_link(format!("/proc/{root}/exe")).ok();
            seen.executed.push(exe.clone());
            match (script.refuse_executed, exe) {
                (Some(why), _) => LaunchReply::Refused { why },
                (None, Some(_)) => LaunchReply::Accepted,
                // The strictest agent: what it cannot look at it refuses.
                (None, None) => LaunchReply::Refused { why: "the process is gone".into() },
            }
        }
    }
}
