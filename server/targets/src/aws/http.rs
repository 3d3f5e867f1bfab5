//! One request to the STS over one connection: no redirect, no proxy, no more than a few kilobytes read, and an end to
//! all waiting. Host names are verified as the web does it, with the system's authorities or the operator's.
//!
//! Decides what was possibly sent: from there on a silent STS may have made a session.

use super::{endpoint::Endpoint, failure::StsError, xml::MAX_BYTES};
use crate::secret_file::{self, SYSTEM_ROOTS};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use proto_tls::HouseTime;
use proto_types::{Clock, Secret, id::excerpt};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const CONNECT: Duration = Duration::from_secs(4);
const ANSWER: Duration = Duration::from_secs(5);
/// What a whole call may take: a session may begin that much later than it was asked for.
pub(super) const LONGEST_CALL: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 16 * 1024;

/// What came back.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Secret<Vec<u8>>,
}

/// Who vouches for the STS.
enum Trust {
    Nobody,
    System(Arc<ClientConfig>),
    /// Read at each call: an authority renews while the server runs.
    File {
        path: PathBuf,
        allowed: Option<PathBuf>,
    },
}

pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    trust: Trust,
    clock: Arc<dyn Clock>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    /// `ca_file`, and where it must lie.
    pub(super) fn new(
        endpoint: Endpoint,
        ca_file: Option<PathBuf>,
        allowed: Option<PathBuf>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let trust = match ca_file {
            _ if !endpoint.tls => Trust::Nobody,
            Some(path) => {
                private(&path, allowed.as_deref(), clock.clone()).map_err(|e| format!("ca_file: {e}"))?;
                Trust::File { path, allowed }
            }
            None => Trust::System(system(clock.clone())?),
        };
        Ok(Self { endpoint, trust, clock })
    }

    /// Sends a form to the endpoint.
    pub(super) async fn post(&self, form: &str) -> Result<Reply, StsError> {
        let unreached = |why: String| StsError::Unreached { at: self.endpoint.to_string(), why };
        let unanswered = |why: String| StsError::Unanswered { at: self.endpoint.to_string(), why };
        let request = hyper::Request::post("/")
            .header(hyper::header::HOST, &self.endpoint.authority)
            .header(hyper::header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
            .header(hyper::header::ACCEPT, "application/xml")
            .body(Full::new(Bytes::from(form.to_string())))
            .map_err(|e| unreached(e.to_string()))?;
        let stream = self.within(CONNECT, self.connect()).await.map_err(unreached)?;
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| unreached(excerpt(&e.to_string())))?;
        let conversation = async move {
            let response = sender.send_request(request).await.map_err(|e| excerpt(&e.to_string()))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
            let body = body.map_err(|_| "its answer broke off or is longer than 64 KiB".to_string())?;
            Ok(Reply { status, body: Secret::new(body.to_bytes().to_vec()) })
        };
        // The connection is driven beside the conversation and dropped with it.
        let both = async move {
            let (mut connection, mut conversation) = (std::pin::pin!(connection), std::pin::pin!(conversation));
            tokio::select! {
                reply = &mut conversation => reply,
                ended = &mut connection => match ended {
                    // The answer may have been read in full before the STS closed.
                    Ok(()) => conversation.await,
                    Err(e) => Err(excerpt(&e.to_string())),
                },
            }
        };
        self.within(ANSWER, both).await.map_err(unanswered)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let config = match &self.trust {
            Trust::Nobody => None,
            Trust::System(config) => Some(config.clone()),
            Trust::File { path, allowed } => {
                Some(private(path, allowed.as_deref(), self.clock.clone()).map_err(|e| format!("ca_file: {e}"))?)
            }
        };
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| excerpt(&e.to_string()))?;
        let _ = tcp.set_nodelay(true);
        let Some(config) = config else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(host.clone()).map_err(|_| "its host is no name that TLS verifies")?;
        let tls = TlsConnector::from(config).connect(name, tcp).await;
        Ok(Box::new(tls.map_err(|e| format!("TLS: {}", excerpt(&e.to_string())))?))
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        tokio::select! {
            done = work => done,
            () = self.clock.sleep(limit) => Err(format!("nothing within {} s", limit.as_secs())),
        }
    }
}

/// The authorities of this machine.
fn system(clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>, String> {
    let none = || "this machine has no authorities of its own: name a ca_file".to_string();
    let path = SYSTEM_ROOTS.iter().map(Path::new).find(|p| p.is_file()).ok_or_else(none)?;
    let mut roots = RootCertStore::empty();
    let all = CertificateDer::pem_file_iter(path).map_err(|_| none())?.filter_map(Result::ok);
    // One that rustls does not read vouches for nobody.
    let (added, _) = roots.add_parsable_certificates(all);
    if added == 0 { Err(none()) } else { config(roots, clock) }
}

/// The operator's own: each is one, or the file is refused.
fn private(path: &Path, allowed: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>, String> {
    let pem = secret_file::read(path, allowed).map_err(|e| e.to_string())?;
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem.expose()) {
        let added = der.map_err(|e| e.to_string()).and_then(|der| roots.add(der).map_err(|e| e.to_string()));
        added.map_err(|e| format!("`{}` holds something that is no certificate: {}", path.display(), excerpt(&e)))?;
    }
    if roots.is_empty() {
        return Err(format!("`{}` holds no certificate: PEM is read", path.display()));
    }
    config(roots, clock)
}

fn config(roots: RootCertStore, clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(HouseTime(clock)))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
