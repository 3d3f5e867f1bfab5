//! One POST over a connection of its own: no redirect, no proxy, and of the answer nothing but its status.
//!
//! Decides what counts as taken. How long it may last is the forwarder's: dropped, the connection is closed.

use super::{endpoint::Endpoint, trust::Trust};
use http_body_util::Full;
use hyper::{
    Request, StatusCode,
    body::Bytes,
    header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use proto_types::{Clock, Secret, id::excerpt};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Longest head of an answer that is read, bytes.
const MAX_HEAD: usize = 16 * 1024;

pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    trust: Trust,
    /// Of the system's authorities, read once.
    system: Option<Arc<ClientConfig>>,
    clock: Arc<dyn Clock>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    pub(super) fn new(endpoint: Endpoint, trust: Trust, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let system = match trust {
            Trust::System => trust.config(clock.clone())?,
            Trust::Nobody | Trust::File(_) => None,
        };
        Ok(Self { endpoint, trust, system, clock })
    }

    /// Posts, and says why when the answer is no 2xx.
    pub(super) async fn post(
        &self,
        content_type: &'static str,
        token: Option<Secret<String>>,
        body: String,
    ) -> Result<(), String> {
        let request = self.request(content_type, token, body)?;
        let stream = self.connect().await.map_err(|why| format!("no connection: {why}"))?;
        match exchange(stream, request).await.map_err(|why| format!("no answer: {why}"))? {
            taken if taken.is_success() => Ok(()),
            away if away.is_redirection() => {
                Err(format!("it answers {}, and a redirect is not followed", away.as_u16()))
            }
            other => Err(format!("it answers {}", other.as_u16())),
        }
    }

    fn request(
        &self,
        content_type: &'static str,
        token: Option<Secret<String>>,
        body: String,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&self.endpoint.target)
            .header(HOST, &self.endpoint.authority)
            .header(CONTENT_TYPE, content_type)
            .header(USER_AGENT, concat!("errand/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| "its URL cannot be sent".to_string())?;
        if let Some(token) = token {
            let bearer = Secret::new(format!("Bearer {}", token.expose()));
            let mut value = HeaderValue::from_str(bearer.expose()).map_err(|_| "its token is no header value")?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let config = match &self.system {
            Some(config) => Some(config.clone()),
            None => self.trust.config(self.clock.clone())?,
        };
        let tcp = self.dial().await.map_err(|e| excerpt(&e.to_string()))?;
        let Some(config) = config else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(self.endpoint.host.clone()).map_err(|_| "its host is no name TLS verifies")?;
        let tls = TlsConnector::from(config).connect(name, tcp).await;
        Ok(Box::new(tls.map_err(|e| format!("TLS: {}", excerpt(&e.to_string())))?))
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let Endpoint { host, port, tls, .. } = &self.endpoint;
        // Without TLS nothing leaves the machine, whatever `localhost` resolves to.
        let stays = |at: &SocketAddr| *tls || at.ip().is_loopback();
        let all: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await?.filter(stays).collect();
        if all.is_empty() {
            return Err(io::Error::other("its name has no address to connect to"));
        }
        TcpStream::connect(&all[..]).await
    }
}

/// The status is all that counts: who answers 2xx has read the batch. Its text is not read.
async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<StatusCode, String> {
    let text = |e: hyper::Error| excerpt(&e.to_string());
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(text)?;
    let conversation = async move { sender.send_request(request).await.map(|answer| answer.status()).map_err(text) };
    // The connection is driven beside the conversation and dropped with it.
    let (mut connection, mut conversation) = (std::pin::pin!(connection), std::pin::pin!(conversation));
    tokio::select! {
        status = &mut conversation => status,
        ended = &mut connection => match ended {
            // The answer may have been read before the other side closed.
            Ok(()) => conversation.await,
            Err(e) => Err(text(e)),
        },
    }
}
