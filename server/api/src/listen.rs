//! The accept loops: one for TLS, one for the admin socket, one for plain loopback. A connection that fails costs only
//! itself, and an error of `accept` never ends a loop.

use crate::Peer;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::header::CONTENT_TYPE,
};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use proto_tls::Svid;
use proto_types::Clock;
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Notify, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// The longest a handshake may take: half-open connections do not pile up.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may stay without a first request, and how long the body of a request that is no gRPC may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at once on one listener.
const MAX_CONNECTIONS: usize = 10_000;
/// Largest request head, bytes.
const MAX_HEAD: u32 = 32 * 1024;

/// What the loops share.
#[derive(Clone)]
pub struct Serving {
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub clock: Arc<dyn Clock>,
}

/// Which listener it is, for people.
fn named(addr: io::Result<SocketAddr>) -> String {
    addr.map_or_else(|_| "a listener".into(), |addr| addr.to_string())
}

impl Serving {
    /// Serves `router` over TLS until stopped.
    pub fn tls(&self, listener: TcpListener, config: Arc<ServerConfig>, router: Router) {
        let this = self.clone();
        let acceptor = TlsAcceptor::from(config);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        self.tasks.spawn(async move {
            let at = named(listener.local_addr());
            while let Some((tcp, addr)) = this.next(&at, || listener.accept()).await {
                let Ok(place) = room.clone().try_acquire_owned() else { continue };
                let (this, acceptor, router) = (this.clone(), acceptor.clone(), router.clone());
                let _ = tcp.set_nodelay(true);
                this.tasks.clone().spawn(async move {
                    let _place = place;
                    let accepted = tokio::select! {
                        accepted = acceptor.accept(tcp) => accepted,
                        () = this.clock.sleep(HANDSHAKE) => return,
                        () = this.stop.cancelled() => return,
                    };
                    let stream = match accepted {
                        Ok(stream) => stream,
                        Err(error) => {
                            tracing::debug!(%addr, %error, "TLS handshake refused");
                            return;
                        }
                    };
                    let leaf = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
                    let cert = leaf.and_then(|der| Svid::read(der).ok()).map(Arc::new);
                    this.connection(stream, Peer::Tls { addr, cert }, router).await;
                });
            }
        });
    }

    /// Serves `router` on the admin socket until stopped.
    pub fn unix(&self, listener: UnixListener, router: Router) {
        let this = self.clone();
        self.tasks.spawn(async move {
            while let Some((stream, _)) = this.next("the admin socket", || listener.accept()).await {
                let Ok(cred) = stream.peer_cred() else { continue };
                let peer = Peer::Local { uid: cred.uid(), pid: cred.pid() };
                let (this, router) = (this.clone(), router.clone());
                this.tasks.clone().spawn(async move { this.connection(stream, peer, router).await });
            }
        });
    }

    /// Serves `router` on plain TCP (loopback: health and metrics) until stopped.
    pub fn plain(&self, listener: TcpListener, router: Router) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let at = named(listener.local_addr());
            while let Some((stream, _)) = this.next(&at, || listener.accept()).await {
                let (this, router) = (this.clone(), router.clone());
                this.tasks.clone().spawn(async move { this.connection(stream, Peer::Plain, router).await });
            }
        });
    }

    /// The next connection; `None` when stopped. Out of descriptors is a pause, not an end.
    async fn next<T, F: Future<Output = io::Result<T>>>(&self, at: &str, accept: impl Fn() -> F) -> Option<T> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                accepted = accept() => match accepted {
                    Ok(connection) => return Some(connection),
                    Err(error) => {
                        tracing::warn!(at, %error, "a connection could not be accepted");
                        self.clock.sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    /// One connection: it must ask something soon, and is cut off otherwise.
    async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        router: Router,
    ) {
        let asked = Arc::new(Notify::new());
        let first = asked.clone();
        let clock = self.clock.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            asked.notify_one();
            let router = router.clone();
            let kind = request.headers().get(CONTENT_TYPE);
            let may_stream = kind.is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"));
            let mut request = request.map(|body| match body.is_end_stream() || may_stream {
                true => Body::new(body),
                false => Body::new(Prompt { body, late: clock.sleep(PATIENCE) }),
            });
            request.extensions_mut().insert(peer.clone());
            async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .max_buf_size(MAX_HEAD as usize)
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(256)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = first.notified() => {}
            () = self.clock.sleep(PATIENCE) => return,
            () = self.stop.cancelled() => {}
        }
        let stopped = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                false
            }
            () = self.stop.cancelled() => true,
        };
        if stopped {
            // What is under way is finished; what is new is refused.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = self.clock.sleep(Duration::from_secs(5)) => {}
            }
        }
    }
}

/// A body that has to be there by a certain time: who sends a form byte by byte holds no place for ever.
struct Prompt {
    body: Incoming,
    late: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl hyper::body::Body for Prompt {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => this.late.as_mut().poll(cx).map(|()| Some(Err("the body took too long".into()))),
            ready => ready.map_err(Into::into),
        }
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
