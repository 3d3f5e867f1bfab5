//! Unary gRPC calls over one HTTP/2 connection with as little around them as there can be: on a machine that client and
//! server share, what the client burns the server lacks. The message is encoded once, before anything is measured.

use super::tls;
use anyhow::{Context, Result, ensure};
use h2::client::SendRequest;
use hyper::body::Bytes;
use prost::Message;
use rustls::ClientConfig;
use std::sync::Arc;

/// Length and compression flag before each message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// One connection; clones share it.
#[derive(Clone)]
pub struct Rpc {
    sender: SendRequest<Bytes>,
}

/// One call, ready to be sent any number of times.
#[derive(Clone)]
pub struct Call {
    rpc: Rpc,
    head: http::Request<()>,
    body: Bytes,
}

impl Rpc {
    pub async fn connect(port: u16, config: Arc<ClientConfig>) -> Result<Self> {
        let stream = tls::connect(port, config).await?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(async move {
            // Ends with the last sender; an error shows at the next call.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// `path`: `/package.Service/Method`.
    pub fn call(&self, path: &str, message: &impl Message) -> Result<Call> {
        let head = http::Request::post(format!("http://server{path}"))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let length = u32::try_from(message.encoded_len())?;
        let mut body = vec![0];
        body.extend(length.to_be_bytes());
        message.encode(&mut body)?;
        Ok(Call { rpc: self.clone(), head, body: body.into() })
    }
}

impl Call {
    /// Sends it; the answer, once its status says that it is one.
    pub async fn send<A: Message + Default>(&self) -> Result<A> {
        let mut sender = self.rpc.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(self.head.clone(), false)?;
        stream.send_data(self.body.clone(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        let said = |name| trailers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        ensure!(said("grpc-status") == "0", "the server answers {}: {}", said("grpc-status"), said("grpc-message"));
        let message = bytes.get(PREFIX..).context("an answer has a message")?;
        Ok(A::decode(message)?)
    }
}
