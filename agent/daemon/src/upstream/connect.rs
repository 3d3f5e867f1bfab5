//! Opening one connection: the addresses in random order, TCP, then TLS, until one of them is the server.

use crate::{config::ServerAddress, ports::Ports};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
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
}

impl Connector {
    pub fn new(tls: Arc<ClientConfig>, servers: Arc<[ServerAddress]>, ports: Ports) -> Self {
        Self { tls: TlsConnector::from(tls), servers, ports }
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
                Ok(stream) => return Ok(stream),
                Err(e) => {
                    tracing::debug!(server = %address, error = %e, "cannot reach the server");
                    last = io::Error::new(e.kind(), format!("{address}: {e}"));
                }
            }
        }
        Err(last)
    }

    async fn try_one(&self, address: &ServerAddress) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        self.tls.connect(name, tcp).await
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
