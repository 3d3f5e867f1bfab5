//! The client of the agent's socket: where it is, how a call is marked, what the agent says of itself.
//!
//! Decides which agent is spoken to (the environment's, the installed one, a running `errand dev`). Decides nothing
//! about identities: the agent looks at the calling process, so a connection speaks for this process only.

pub mod discover;
mod error;
pub mod identity;
mod tls;
pub mod token;
pub mod token_error;

pub use error::ClientError;

use hyper_util::rt::TokioIo;
use proto_types::Clock;
use proto_wire::{
    errand::v1::{ExplainRequest, ExplainResponse, GetInfoRequest, GetInfoResponse, agent_client, task_client},
    workload::spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// How long the agent may take to answer a call that only looks something up.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Marks every call as a deliberate one (SPIFFE Workload API, section 6.1 "security header"): a request smuggled
/// through a proxy on the same machine cannot carry it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecurityHeader;

impl Interceptor for SecurityHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        Ok(request)
    }
}

/// A channel whose calls carry the header.
pub type Marked = InterceptedService<Channel, SecurityHeader>;

/// One connection to an agent.
#[derive(Clone, Debug)]
pub struct AgentClient {
    channel: Channel,
    socket: PathBuf,
}

impl AgentClient {
    /// The agent this process is meant to speak to; see [`discover`].
    pub async fn find() -> Result<Self, ClientError> {
        let candidates = discover::candidates(&|name| std::env::var_os(name))?;
        let mut failures = Vec::new();
        for socket in &candidates {
            match Self::connect(socket).await {
                Ok(client) => return Ok(client),
                Err(error) => failures.push(error),
            }
        }
        // The first place is the one the user most likely means; its failure says most.
        Err(failures.into_iter().next().unwrap_or(ClientError::NoAgent))
    }

    /// The agent that listens on `socket`.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let path = socket.to_path_buf();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The name is not looked up; it only fills the `:authority` of HTTP/2.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector(connector)
            .await
            .map_err(|source| ClientError::Connect { socket: socket.into(), why: innermost(&source) })?;
        Ok(Self { channel, socket: socket.into() })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The SPIFFE Workload API.
    pub fn workload(&self) -> SpiffeWorkloadApiClient<Marked> {
        SpiffeWorkloadApiClient::with_interceptor(self.channel.clone(), SecurityHeader)
    }

    /// Tasks of processes.
    pub fn tasks(&self) -> task_client::TaskClient<Marked> {
        task_client::TaskClient::with_interceptor(self.channel.clone(), SecurityHeader)
    }

    /// What a client on this node needs to know, and the caller's innermost task.
    pub async fn info(&self, clock: &dyn Clock) -> Result<GetInfoResponse, ClientError> {
        let mut agent = agent_client::AgentClient::with_interceptor(self.channel.clone(), SecurityHeader);
        let answer = within(clock, ANSWER, agent.get_info(GetInfoRequest {})).await;
        self.answer("asking the agent who it is", answer)
    }

    /// What the agent makes of process `pid`.
    pub async fn explain(&self, pid: i32, clock: &dyn Clock) -> Result<ExplainResponse, ClientError> {
        let mut agent = agent_client::AgentClient::with_interceptor(self.channel.clone(), SecurityHeader);
        let answer = within(clock, ANSWER, agent.explain(ExplainRequest { pid })).await;
        self.answer("asking the agent about the process", answer)
    }

    /// The content of one answer, or why there is none. `doing` completes "… failed".
    pub fn answer<T>(
        &self,
        doing: &'static str,
        answer: Option<Result<tonic::Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        match answer {
            Some(Ok(response)) => Ok(response.into_inner()),
            Some(Err(status)) => {
                Err(ClientError::Status { doing, code: status.code(), message: status.message().into() })
            }
            None => Err(ClientError::Silent { doing, socket: self.socket.clone() }),
        }
    }
}

/// The outcome of `future`, or `None` once `limit` has passed.
pub async fn within<T>(clock: &dyn Clock, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = future => Some(outcome),
        () = clock.sleep(limit) => None,
    }
}

/// The text of the cause at the bottom: tonic's own says only "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
