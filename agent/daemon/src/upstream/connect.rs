//! Opening one connection: the addresses in random order, TCP, then TLS, until one of them is the server.

use crate::{config::ServerAddress, ports::Ports};
use arc_swap::ArcSwapOption;
use hyper_util::rt::TokioIo;
use proto_types::{format_duration, id::excerpt};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::{ServerName, UnixTime};
use std::{future::Future, io, pin::Pin, sync::Arc, task, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Uri;

/// TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    servers: Arc<[ServerAddress]>,
    ports: Ports,
    /// Why the last attempt found no server; empty once one did.
    unreached: Arc<ArcSwapOption<String>>,
}

impl Connector {
    pub fn new(tls: Arc<ClientConfig>, servers: Arc<[ServerAddress]>, ports: Ports) -> Self {
        Self { tls: TlsConnector::from(tls), servers, ports, unreached: Arc::default() }
    }

    pub fn unreached(&self) -> Option<Arc<String>> {
        self.unreached.load_full()
    }

    /// Fisher and Yates: with one server down, its agents spread over all the others.
    fn shuffled(&self) -> Vec<ServerAddress> {
        let mut list = self.servers.to_vec();
        for i in (1..list.len()).rev() {
            let j = (self.ports.jitter() * (i + 1) as f64) as usize;
            list.swap(i, j.min(i));
        }
        list
    }

    async fn open(self) -> io::Result<TlsStream<TcpStream>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no server is configured");
        for address in self.shuffled() {
            let tried = tokio::select! {
                tried = self.try_one(&address) => tried,
                () = self.ports.clock.sleep(CONNECT_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
            };
            match tried {
                Ok(stream) => {
                    tracing::info!(server = %address, "connected to the server");
                    self.unreached.store(None);
                    return Ok(stream);
                }
                Err(e) => {
                    let why = by_the_clock(&e).unwrap_or_else(|| excerpt(&e.to_string()));
                    tracing::debug!(server = %address, error = %why, "cannot reach the server");
                    last = io::Error::new(e.kind(), format!("{address}: {why}"));
                }
            }
        }
        self.unreached.store(Some(Arc::new(last.to_string())));
        Err(last)
    }

    async fn try_one(&self, address: &ServerAddress) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
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
