//! The server's admin socket: finding it, and speaking gRPC and JSON over it.
//!
//! Decides where a server is looked for and how its answers become errors. What is asked is the verbs'.

mod grpc;
mod http;
pub mod locate;
mod page;
mod problem;

pub use grpc::{row, status};
pub use http::{Lines, Query, encode};
pub use locate::Surroundings;
pub use page::Paging;

use crate::error::{CliError, Result};
use proto_types::Clock;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How long the server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one answer may take; `target check` talks to a target meanwhile.
const ANSWER: Duration = Duration::from_secs(60);

/// A server that was found. Connections are made per request: the socket is local and cheap.
#[derive(Clone)]
pub struct AdminClient {
    socket: PathBuf,
    clock: Arc<dyn Clock>,
}

impl AdminClient {
    /// Finds the server by `named` (the flag or its variable), or where servers are.
    pub fn find(named: Option<&str>, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self { socket: locate::admin(named, &locate::Surroundings::of_process())?, clock })
    }

    pub fn at(socket: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { socket, clock }
    }

    async fn connect(&self) -> Result<tokio::net::UnixStream> {
        let connecting = self.within(CONNECT, "accept a connection", tokio::net::UnixStream::connect(&self.socket));
        connecting.await?.map_err(|e| refused(&self.socket, &e))
    }

    /// `work`, unless the server takes longer than `limit`.
    async fn within<T>(&self, limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = self.clock.sleep(limit) => Err(CliError::unreachable(format!(
                "the server did not {what} within {}", proto_types::format_duration(limit)
            )).at(self.socket.display()).hint("see its log, and `errand doctor`")),
        }
    }
}

/// Why connecting failed, for the one who must mend it.
fn refused(socket: &std::path::Path, error: &std::io::Error) -> CliError {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let at = socket.display();
    match error.kind() {
        PermissionDenied => CliError::denied("the admin socket does not admit this user")
            .at(at)
            .hint("run as the server's user, or have your uid listed under `[admin] operators` of its configuration"),
        NotFound => CliError::unreachable("there is no admin socket").at(at).hint(
            "start `errand dev` or `errand server run --config FILE`, or name another socket with --server-socket",
        ),
        ConnectionRefused => CliError::unreachable("nothing listens on the admin socket: its server is not running")
            .at(at)
            .hint("start `errand dev` or `errand server run --config FILE`"),
        _ => CliError::unreachable(format!("cannot connect to the server: {error}")).at(at),
    }
}
