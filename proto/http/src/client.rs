//! One request over a connection of its own.
//!
//! Decides how an answer is read: its head within 16 KiB, of its body no more than was asked for.

use crate::{endpoint::Endpoint, trust::Trust};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
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

/// What came back.
pub struct Reply {
    pub status: StatusCode,
    /// Empty when none of it was asked for.
    pub body: Secret<Vec<u8>>,
}

/// Asks one host.
pub struct Client {
    pub endpoint: Endpoint,
    trust: Trust,
    /// Of the system's authorities, read once.
    system: Option<Arc<ClientConfig>>,
    clock: Arc<dyn Clock>,
}

/// What is asked, beside where.
pub struct Question<'a> {
    pub method: Method,
    /// Path and query.
    pub target: &'a str,
    pub content_type: &'static str,
    pub token: Option<Secret<String>>,
    pub body: Secret<String>,
    /// How much of the answer's body is read, bytes; a longer one is an error, and with 0 it is not read at all.
    pub most: usize,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    pub fn new(endpoint: Endpoint, trust: Trust, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let system = match trust {
            Trust::System => trust.config(clock.clone())?,
            Trust::Nobody | Trust::File(_) => None,
        };
        Ok(Self { endpoint, trust, system, clock })
    }

    /// Asks, and says why when there is no answer.
    pub async fn ask(&self, question: Question<'_>) -> Result<Reply, String> {
        let most = question.most;
        let request = self.request(question)?;
        let stream = self.connect().await.map_err(|why| format!("no connection: {why}"))?;
        exchange(stream, request, most).await.map_err(|why| format!("no answer: {why}"))
    }

    fn request(&self, question: Question<'_>) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(question.method)
            .uri(question.target)
            .header(HOST, &self.endpoint.authority)
            .header(CONTENT_TYPE, question.content_type)
            .header(USER_AGENT, concat!("errand/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(question.body.expose().clone())))
            .map_err(|_| "its URL cannot be sent".to_string())?;
        if let Some(token) = question.token {
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

async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>, most: usize) -> Result<Reply, String> {
    let text = |e: hyper::Error| excerpt(&e.to_string());
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(text)?;
    let conversation = async move {
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status();
        if most == 0 {
            return Ok(Reply { status, body: Secret::new(Vec::new()) });
        }
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|_| format!("it broke off, or is longer than {most} bytes"))?;
        Ok(Reply { status, body: Secret::new(body.to_bytes().to_vec()) })
    };
    // The connection is driven beside the conversation and dropped with it.
    let (mut connection, mut conversation) = (std::pin::pin!(connection), std::pin::pin!(conversation));
    tokio::select! {
        reply = &mut conversation => reply,
        ended = &mut connection => match ended {
            // The answer may have been read before the other side closed.
            Ok(()) => conversation.await,
            Err(e) => Err(text(e)),
        },
    }
}
