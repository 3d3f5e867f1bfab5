//! A task that this process holds by its key, as a framework would: no command, no root process.

use super::{World, http::ClientIdentity};
use cli::agent_client::{AgentClient, identity::Identity};
use proto_wire::errand::v1::{EndRequest, StartRequest, StartResponse};
use tonic::{Status, Streaming};

/// A live task and what its holder was given.
pub struct HeldTask {
    pub id: String,
    pub identity: Identity,
    agent: AgentClient,
    stream: Streaming<StartResponse>,
}

impl World {
    /// Starts a task with these grants.
    pub async fn holds_task(&self, intent: &str, grants: &[&str]) -> HeldTask {
        self.tries_task(intent, grants, 0).await.unwrap_or_else(|e| panic!("`{intent}` is not started: {e}"))
    }

    /// The same, with a life in seconds, when it may fail.
    pub async fn tries_task(&self, intent: &str, grants: &[&str], ttl: u32) -> Result<HeldTask, Status> {
        let agent = self.node.connect().await;
        let request = StartRequest {
            intent: intent.into(),
            grants: grants.iter().map(ToString::to_string).collect(),
            ttl_seconds: ttl,
            launch_id: String::new(),
            spiffe_id: String::new(),
        };
        let mut stream = agent.tasks().start(request).await?.into_inner();
        let first = stream.message().await?.ok_or_else(|| Status::unavailable("the stream ended at once"))?;
        let identity = Identity::new(first.spiffe_id, &first.x509_svid, first.x509_svid_key, first.subject_token);
        let identity = identity.map_err(|e| Status::internal(format!("{e:?}")))?;
        Ok(HeldTask { id: first.task_id, identity, agent, stream })
    }
}

impl HeldTask {
    /// Its certificate, for a connection.
    pub fn certificate(&self) -> ClientIdentity {
        (self.identity.chain.clone(), self.identity.key.expose().clone())
    }
    /// Its JWT-SVID for the token endpoint.
    pub fn subject_token(&self) -> &str {
        self.identity.subject_token.expose()
    }
    /// Its work is done.
    pub async fn completes(&self) {
        let done = self.agent.tasks().complete(EndRequest { task_id: self.id.clone() }).await;
        done.unwrap_or_else(|e| panic!("the task {} does not complete: {e}", self.id));
    }
    /// Waits for its end; why.
    pub async fn end_reason(&mut self) -> String {
        loop {
            match self.stream.message().await {
                Ok(Some(message)) if message.end_reason.is_empty() => {}
                Ok(Some(message)) => return message.end_reason,
                other => panic!("the stream of task {} ended without a reason: {other:?}", self.id),
            }
        }
    }
}
