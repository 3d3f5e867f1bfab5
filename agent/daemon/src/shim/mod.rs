//! A stream wrapper that lets gRPC clients through whose `:authority` the HTTP/2 server would refuse.
//!
//! On a unix socket C-core clients (Python, C++, Ruby) and some others send the escaped path of the socket as `:authority`
//! (`tmp%2Fagent.sock`), which the server's parser answers with PROTOCOL_ERROR before any handler runs. The name has no
//! meaning on this socket, so it is replaced by `x`. Nothing else of what the client sends is changed, and nothing of what
//! the server sends.

mod frames;
mod hpack;
#[cfg(test)]
mod tests;

pub use frames::{MAX_BLOCK, MAX_FRAMES, Rewriter};
pub use hpack::rewrite;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Why a client's bytes are not passed on. The connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShimError {
    #[error("a header block ends within a field (RFC 7541, section 6)")]
    Truncated,
    #[error("an integer in a header block is too long (RFC 7541, section 5.1)")]
    Integer,
    #[error("a header block has more than {MAX_BLOCK} bytes or {MAX_FRAMES} frames")]
    TooLarge,
    #[error("a frame came between those of a header block, or continues none (RFC 9113, section 6.10)")]
    Interleaved,
    #[error("a HEADERS frame is shorter than its padding and priority (RFC 9113, section 6.2)")]
    Padding,
}

/// A stream whose reader sees the client's bytes rewritten.
pub struct Shim<S> {
    stream: S,
    rewriter: Rewriter,
    /// Rewritten bytes that have not been read yet, from `read` on.
    ready: Vec<u8>,
    read: usize,
    failed: Option<ShimError>,
}

impl<S> Shim<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, rewriter: Rewriter::default(), ready: Vec::new(), read: 0, failed: None }
    }

    /// The stream itself; peer credentials are its.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Moves what is ready to the reader. `false`: nothing was.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.ready[self.read..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.read += n;
        if self.read == self.ready.len() {
            self.ready.clear();
            self.read = 0;
            // One large header block should not be paid for until the connection ends.
            self.ready.shrink_to(16 * 1024);
        }
        n > 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shim<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_over(buf) || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(why) = this.failed {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
            }
            // The client's bytes go into the reader's own buffer; in the middle of a payload they stay there.
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let n = buf.filled().len() - before;
            if n == 0 || this.rewriter.pass(n) {
                return Poll::Ready(Ok(()));
            }
            // What was whole before an error is still read; then the error, for ever.
            this.failed = this.rewriter.feed(&buf.filled()[before..], &mut this.ready).err();
            buf.set_filled(before);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shim<S> {
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

impl<S: Connected> Connected for Shim<S> {
    type ConnectInfo = S::ConnectInfo;
    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
