//! Opening one connection: TCP, then TLS, to one server after another until one of them is the server.
//!
//! Decides in which order, by their weights and by who failed a moment ago, and that one that does not answer costs a
//! moment only. Where the servers are is `discover`'s to know.

use super::discover::{Discovery, Found};
use crate::{
    config::{ServerAddress, Servers},
    ports::Ports,
};
use agent_core::servers::{Candidate, order};
use arc_swap::ArcSwapOption;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hyper_util::rt::TokioIo;
use proto_types::{Timestamp, format_duration, id::excerpt};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::{ServerName, UnixTime};
use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task,
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Uri;

/// TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long one server may take before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// How long one that failed is tried after all others.
const AVOIDED: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    ports: Ports,
    inner: Arc<Inner>,
}

struct Inner {
    discovery: Discovery,
    /// Why the last attempt found no server; empty once one did.
    unreached: ArcSwapOption<String>,
    /// The server that was reached last.
    current: ArcSwapOption<ServerAddress>,
    /// Servers that failed, and when.
    failed: Mutex<HashMap<ServerAddress, Timestamp>>,
}

impl Connector {
    pub fn new(tls: Arc<ClientConfig>, servers: Servers, ports: Ports) -> Self {
        let inner = Inner {
            discovery: Discovery::new(servers),
            unreached: ArcSwapOption::empty(),
            current: ArcSwapOption::empty(),
            failed: Mutex::default(),
        };
        Self { tls: TlsConnector::from(tls), ports, inner: Arc::new(inner) }
    }

    pub fn unreached(&self) -> Option<Arc<String>> {
        self.inner.unreached.load_full()
    }

    pub fn has_others(&self) -> bool {
        self.inner.discovery.servers().are_several()
    }

    /// The server that was reached last is of no use now.
    pub fn avoid_current(&self) {
        if let Some(address) = self.inner.current.swap(None) {
            self.avoid(ServerAddress::clone(&address));
        }
    }

    fn avoid(&self, address: ServerAddress) {
        self.failed().insert(address, self.ports.clock.now());
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<ServerAddress, Timestamp>> {
        self.inner.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers there are, in the order in which they are tried.
    async fn ordered(&self) -> Result<Vec<Found>, String> {
        let found = self.inner.discovery.find(&*self.ports.clock).await?;
        let now = self.ports.clock.now();
        let mut failed = self.failed();
        failed.retain(|_, at| now.since(*at) < AVOIDED && *at <= now);
        let candidates = found.into_iter().map(|c| Candidate { failed: failed.contains_key(&c.at.address), ..c });
        Ok(order(candidates.collect(), || self.ports.jitter()))
    }

    /// One after another, each a moment after the one before it: whoever is first at the end of its handshake.
    async fn open(self) -> io::Result<TlsStream<TcpStream>> {
        let servers = match self.ordered().await {
            Ok(servers) => servers,
            Err(why) => {
                self.inner.unreached.store(Some(Arc::new(why.clone())));
                return Err(io::Error::new(io::ErrorKind::NotFound, why));
            }
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no server is known");
        let (mut waiting, mut trying) = (servers.into_iter(), FuturesUnordered::new());
        trying.extend(waiting.next().map(|server| self.attempt(server)));
        while !trying.is_empty() {
            let tried = tokio::select! {
                tried = trying.next() => tried,
                () = self.ports.clock.sleep(STAGGER), if waiting.len() > 0 => None,
            };
            match tried {
                Some((server, Ok(stream))) => {
                    tracing::info!(server = %server.address, "connected to the server");
                    self.failed().remove(&server.address);
                    self.inner.current.store(Some(Arc::new(server.address)));
                    self.inner.unreached.store(None);
                    return Ok(stream);
                }
                Some((server, Err(e))) => {
                    let why = by_the_clock(&e).unwrap_or_else(|| excerpt(&e.to_string()));
                    tracing::debug!(server = %server.address, error = %why, "cannot reach the server");
                    last = io::Error::new(e.kind(), format!("{}: {why}", server.address));
                    self.avoid(server.address);
                }
                None => {}
            }
            trying.extend(waiting.next().map(|server| self.attempt(server)));
        }
        self.inner.unreached.store(Some(Arc::new(last.to_string())));
        Err(last)
    }

    async fn attempt(&self, server: Found) -> (Found, io::Result<TlsStream<TcpStream>>) {
        let tried = tokio::select! {
            tried = self.try_one(&server) => tried,
            () = self.ports.clock.sleep(CONNECT_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
        };
        (server, tried)
    }

    async fn try_one(&self, server: &Found) -> io::Result<TlsStream<TcpStream>> {
        let address = &server.address;
        let tcp = match server.ip {
            Some(ip) => TcpStream::connect((ip, address.port)).await?,
            None => TcpStream::connect((address.host.as_str(), address.port)).await?,
        };
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        self.tls.connect(name, tcp).await
    }
}

/// What is wrong with the time, where a certificate of the server is not good now: mostly one of the clocks.
fn by_the_clock(error: &io::Error) -> Option<String> {
    const ADVICE: &str = "compare `date -u` on both and set the wrong one right";
    let Some(rustls::Error::InvalidCertificate(why)) = error.get_ref()?.downcast_ref() else { return None };
    let apart = |later: UnixTime, earlier: UnixTime| {
        format_duration(Duration::from_secs(later.as_secs().saturating_sub(earlier.as_secs())))
    };
    match why {
        CertificateError::NotValidYetContext { time, not_before } => Some(format!(
            "the server's certificate begins in {by} by this machine's clock, which is behind the server's by {by} or \
             more; {ADVICE}",
            by = apart(*not_before, *time)
        )),
        CertificateError::ExpiredContext { time, not_after } => Some(format!(
            "the server's certificate ended {by} ago by this machine's clock, which is ahead of the server's by {by} or \
             more, unless the server could not renew it; {ADVICE}",
            by = apart(*time, *not_after)
        )),
        _ => None,
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        task::Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.open().await.map(TokioIo::new) })
    }
}
