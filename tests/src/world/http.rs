//! One HTTP request over one connection, by a client that knows nothing of the house: plain hyper and rustls, host names
//! checked.

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, header::HeaderMap};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use std::{path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{}: {e} in {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// A client's certificate with its key (PKCS#8).
pub type ClientIdentity = (Vec<CertificateDer<'static>>, Vec<u8>);

/// Sends `request` to `localhost:PORT` over TLS, believing the authorities in `ca_file`.
pub async fn https(
    ca_file: &Path,
    port: u16,
    identity: Option<ClientIdentity>,
    request: Request<Full<Bytes>>,
) -> std::io::Result<Answer> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").expect("a host name");
    let tls = TlsConnector::from(Arc::new(tls(ca_file, identity))).connect(name, tcp).await?;
    send(tls, request).await
}

/// Sends `request` to `127.0.0.1:PORT` as it is.
pub async fn plain(port: u16, request: Request<Full<Bytes>>) -> std::io::Result<Answer> {
    send(TcpStream::connect(("127.0.0.1", port)).await?, request).await
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> std::io::Result<Answer> {
    let fail = std::io::Error::other;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(fail)?;
    let driven = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(fail)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(fail)?.to_bytes().to_vec();
    driven.abort();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// `GET` of a public document.
pub async fn get(ca_file: &Path, port: u16, path: &str) -> Answer {
    let request = Request::get(path).header("host", format!("localhost:{port}")).body(Full::default());
    https(ca_file, port, None, request.expect("a request")).await.unwrap_or_else(|e| panic!("GET {path}: {e}"))
}

/// What a server's metrics listener shows.
pub async fn metrics(port: u16) -> Vec<u8> {
    let request = Request::get("/metrics").header("host", format!("127.0.0.1:{port}")).body(Full::default());
    let answer = plain(port, request.expect("a request")).await.unwrap_or_else(|e| panic!("GET /metrics: {e}"));
    assert_eq!(answer.status, StatusCode::OK);
    answer.body
}

fn tls(ca_file: &Path, identity: Option<ClientIdentity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_file_iter(ca_file).expect("the CA file is there") {
        roots.add(ca.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.expect("TLS 1.3 is there").with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
            builder.with_client_auth_cert(chain, key).expect("a certificate with its key")
        }
    }
}
