//! One kept HTTP/1.1 connection, over whatever carries it.

use anyhow::{Context, Result, ensure};
use http::request::Builder;
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use std::path::Path;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Http {
    pub async fn over<S>(stream: S, host: String) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Ends with the sender; an error shows at the next request.
            let _ = connection.await;
        });
        Ok(Self { sender, host })
    }

    pub async fn over_tcp(port: u16) -> Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.set_nodelay(true)?;
        Self::over(tcp, format!("127.0.0.1:{port}")).await
    }

    pub async fn over_unix(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).await.with_context(|| format!("{}", path.display()))?;
        Self::over(stream, "localhost".into()).await
    }

    /// The whole answer, when it is one of success.
    pub async fn send(&mut self, request: Builder, body: Bytes) -> Result<Bytes> {
        let request = request.header("host", &self.host).body(Full::new(body))?;
        let what = format!("{} {}", request.method(), request.uri());
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{what} answers {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
