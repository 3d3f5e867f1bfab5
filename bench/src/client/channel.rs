//! gRPC channels: over TLS to the server, over unix sockets to server and agent.

use super::tls;
use anyhow::Result;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// One HTTP/2 connection to the server's gRPC port, from this address.
pub async fn over_tls(from: Ipv4Addr, port: u16, config: Arc<ClientConfig>) -> Result<Channel> {
    let connector = tower::service_fn(move |_| {
        let config = config.clone();
        async move { tls::connect_from(from, port, config).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://server").connect_with_connector(connector).await?)
}

pub async fn over_unix(path: PathBuf) -> Result<Channel> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://localhost").connect_with_connector(connector).await?)
}

/// The header that every call of the Workload API carries.
#[derive(Clone, Copy, Debug)]
pub struct SecurityHeader;

impl Interceptor for SecurityHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        Ok(request)
    }
}

/// A channel to an agent.
pub type Marked = InterceptedService<Channel, SecurityHeader>;
