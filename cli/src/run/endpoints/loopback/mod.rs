//! A document on loopback, for the libraries that fetch their credentials over HTTP. It is answered from the newest
//! credential.
//!
//! Decides whether a connection is spoken with at all: its other end must be of this process's own uid. What a request
//! must show is [`guard`]'s.

mod guard;
mod peer;

use super::{MAX_CONNECTIONS, PAUSE};
use crate::run::placement::Address;
use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use guard::Guard;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use proto_types::{Clock, Entropy, Secret};
use std::{convert::Infallible, io, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Longest head of a request, bytes; hyper reads no shorter ones.
const MAX_HEAD: usize = 8 * 1024;
/// How long a client may take to send one.
const PATIENCE: Duration = Duration::from_secs(5);
/// What another user gets, as far as it listens.
const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

type Connection = LocalBoxFuture<'static, ()>;

/// One listening port and who speaks on it.
pub struct Loopback {
    listener: TcpListener,
    guard: Arc<Guard>,
    document: watch::Sender<Secret<String>>,
    connections: FuturesUnordered<Connection>,
}

/// What callers of one grant's endpoints must show. Without a line's end, since clients send the file as it is.
pub fn bearer(entropy: &dyn Entropy) -> Secret<String> {
    random::<32>(entropy).into()
}

fn random<const BYTES: usize>(entropy: &dyn Entropy) -> String {
    let mut random = [0u8; BYTES];
    entropy.fill(&mut random);
    hex::encode(random)
}

impl Loopback {
    pub async fn open(document: Secret<String>, bearer: Secret<String>, entropy: &dyn Entropy) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let host = listener.local_addr()?.to_string();
        let guard = Arc::new(Guard { host, path: format!("/{}", random::<16>(entropy)), bearer });
        Ok(Self { listener, guard, document: watch::Sender::new(document), connections: FuturesUnordered::new() })
    }

    /// How the endpoint is reached, for `variable`.
    pub fn address(&self, variable: &str) -> Address {
        let Guard { host, path, bearer } = &*self.guard;
        Address { variable: variable.into(), url: format!("http://{host}{path}"), bearer: bearer.clone() }
    }

    pub fn renew(&self, document: Secret<String>) {
        self.document.send_replace(document);
    }

    /// Never completes.
    pub async fn serve(&mut self, clock: &dyn Clock) {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => self.accepted(stream),
                    Err(_) => clock.sleep(PAUSE).await,
                },
                Some(()) = self.connections.next() => {}
            }
        }
    }

    fn accepted(&self, stream: TcpStream) {
        if peer::is_own(&stream) {
            self.connections.push(Box::pin(converse(stream, self.guard.clone(), self.document.subscribe())));
        } else {
            // Not worth waiting for: others could take up all connections.
            let _ = stream.try_write(FORBIDDEN);
        }
    }
}

/// One connection with one request.
async fn converse(stream: TcpStream, guard: Arc<Guard>, document: watch::Receiver<Secret<String>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&guard, &document, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(MAX_HEAD).keep_alive(false);
    // A client that breaks off has hurt itself alone.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn answer<B>(guard: &Guard, document: &watch::Receiver<Secret<String>>, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if guard.admits(request) {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        *response.body_mut() = Full::from(document.borrow().expose().clone());
    } else {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response
}
