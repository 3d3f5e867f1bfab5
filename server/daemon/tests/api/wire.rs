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

    /// Calls `/service/method` with this body.
    pub async fn call(&mut self, path: &str, body: Vec<u8>) -> Code {
        let mut request = Request::post(format!("http://errand-server/{path}"));
        request = request.header("content-type", "application/grpc").header("te", "trailers");
        let request = request.body(Full::new(body.into())).unwrap();
        self.0.ready().await.unwrap();
        let answer = async { outcome(self.0.send_request(request).await.unwrap()).await };
        tokio::time::timeout(SOON, answer).await.unwrap_or_else(|_| panic!("{path} is not answered"))
    }
}

/// `Ok` as soon as there is a message: what streams need not end.
async fn outcome(response: http::Response<Incoming>) -> Code {
    let (head, mut body) = response.into_parts();
    if head.headers.contains_key("grpc-status") {
        return status(&head.headers);
    }
    if head.status != http::StatusCode::OK {
        // How gRPC reads a plain HTTP status.
        return if head.status == http::StatusCode::NOT_FOUND { Code::Unimplemented } else { Code::Unknown };
    }
    let first = body.frame().await.expect("the answer ends without a status").unwrap();
    first.trailers_ref().map_or(Code::Ok, status)
}

fn status(headers: &HeaderMap) -> Code {
    Code::from_i32(headers["grpc-status"].to_str().unwrap().parse().unwrap())
}
