//! One accepted connection: the stream, the process that the kernel pinned to it, and the time it has to say something.

use super::admit::Gate;
use crate::tasks::guard::exit_of;
use agent_core::admission::Permit;
use agent_workload::PinnedCaller;
use proto_types::Fut;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::server::Connected;

/// The HTTP/2 client preface: until it is here, the peer has asked for nothing.
const PREFACE: usize = 24;

/// Who is at the other end of a request. Cheap to clone.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    caller: PinnedCaller,
    gate: Arc<Gate>,
    gone: CancellationToken,
    // One watch for all streams of the connection; each of its own would cost a descriptor.
    _watch: AbortOnDropHandle<()>,
    // Counts the connection for as long as anything of it is in use.
    _permit: Permit,
}

impl Peer {
    pub fn new(caller: PinnedCaller, gate: Arc<Gate>, permit: Permit) -> Self {
        let (exit, gone) = (exit_of(&caller), CancellationToken::new());
        let tell = gone.clone();
        let watch = AbortOnDropHandle::new(tokio::spawn(async move {
            exit.await;
            tell.cancel();
        }));
        Self(Arc::new(Inner { caller, gate, gone, _watch: watch, _permit: permit }))
    }
    pub fn caller(&self) -> &PinnedCaller {
        &self.0.caller
    }
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }
    /// Completes when the process has exited.
    pub async fn exited(&self) {
        self.0.gone.cancelled().await;
    }
}

/// A connection to the agent's socket.
pub struct LocalConn {
    stream: UnixStream,
    peer: Peer,
    /// Bytes of the preface that are missing, and until when they may be.
    opening: Option<(usize, Fut<'static, ()>)>,
}

impl LocalConn {
    pub fn new(stream: UnixStream, peer: Peer, patience: Fut<'static, ()>) -> Self {
        Self { stream, peer, opening: Some((PREFACE, patience)) }
    }
}

impl Connected for LocalConn {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for LocalConn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf)?;
        if let Some((missing, patience)) = &mut this.opening {
            *missing = missing.saturating_sub(buf.filled().len() - before);
            if *missing == 0 {
                this.opening = None;
            } else if polled.is_pending() && patience.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled.map(Ok)
    }
}

impl AsyncWrite for LocalConn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
