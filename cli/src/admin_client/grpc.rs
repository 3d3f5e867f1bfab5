//! gRPC over the admin socket, and gRPC statuses as errors.

use super::{ANSWER, AdminClient, CONNECT};
use crate::error::{CliError, Result};
use hyper_util::rt::TokioIo;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

impl AdminClient {
    /// A channel to the server; every service of the admin socket is on it.
    pub async fn channel(&self) -> Result<Channel> {
        // The first connection is made here, where an error still says what a person must do.
        let mut first = Some(self.connect().await?);
        let socket = self.socket.clone();
        let connector = tower::service_fn(move |_| {
            let (ready, socket) = (first.take(), socket.clone());
            async move {
                let stream = match ready {
                    Some(stream) => stream,
                    None => tokio::net::UnixStream::connect(socket).await?,
                };
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT).timeout(ANSWER);
        endpoint.connect_with_connector(connector).await.map_err(|e| {
            CliError::unreachable(format!("the server does not speak gRPC: {e}")).at(self.socket.display())
        })
    }
}

/// A gRPC refusal. The server's message says what to do next.
pub fn status(status: Status) -> CliError {
    let what = if status.message().is_empty() {
        format!("the server answered {:?}", status.code())
    } else {
        super::problem::bounded(status.message())
    };
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => CliError::denied(what),
        // The transport says `Cancelled` when the answer took too long.
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => CliError::unreachable(what),
        Code::Unimplemented => {
            CliError::failed(what).hint("this server does not offer it; check that it is of the same version")
        }
        _ => CliError::failed(what),
    }
}

/// The status of one row of a batch, as an error; `None` when it went well.
pub fn row(status: Option<&proto_wire::spire::api::types::Status>) -> Option<CliError> {
    let row = status.filter(|s| s.code != 0)?;
    Some(self::status(Status::new(Code::from_i32(row.code), row.message.clone())))
}
