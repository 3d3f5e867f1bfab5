//! gRPC by hand: what no client library would send.

use crate::world::{SOON, Stream};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::Code;

/// One HTTP/2 connection.
pub struct Wire(SendRequest<Full<Bytes>>);

/// What came of one call: the first of a message, or a status.
#[derive(Debug)]
pub enum Outcome {
    Message(Bytes),
    Status(Code, String),
}

impl Outcome {
    pub fn code(&self) -> Code {
        match self {
            Self::Message(_) => Code::Ok,
            Self::Status(code, _) => *code,
        }
    }
}

/// A message with the five bytes that stand before it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

impl Wire {
    pub async fn on(stream: Box<dyn Stream>) -> Self {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Calls `/service/method` with this body and these headers besides.
    pub async fn call(&mut self, path: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Outcome {
        let mut request = Request::post(format!("http://errand-server/{path}"));
        request = request.header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.0.ready().await.unwrap();
        let answer = async { outcome(self.0.send_request(request).await.unwrap()).await };
        tokio::time::timeout(SOON, answer).await.unwrap_or_else(|_| panic!("{path} is not answered"))
    }
}

async fn outcome(response: http::Response<Incoming>) -> Outcome {
    let (head, mut body) = response.into_parts();
    if head.headers.contains_key("grpc-status") {
        return status(&head.headers);
    }
    if head.status != http::StatusCode::OK {
        // How gRPC reads a plain HTTP status.
        let code = if head.status == http::StatusCode::NOT_FOUND { Code::Unimplemented } else { Code::Unknown };
        return Outcome::Status(code, head.status.to_string());
    }
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(data) => return Outcome::Message(data),
            Err(frame) => return status(frame.trailers_ref().unwrap()),
        }
    }
    panic!("the answer ends without a status");
}

fn status(headers: &HeaderMap) -> Outcome {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap().to_string()).unwrap_or_default();
    Outcome::Status(Code::from_i32(text("grpc-status").parse().unwrap()), text("grpc-message"))
}
