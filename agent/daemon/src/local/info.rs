//! `errand.v1.Agent`: what a client on this node needs to know of the server, the caller's task, and why a process gets
//! an identity or none.

use super::{attest, explain};
use crate::shared::Shared;
use proto_wire::errand::v1::{ExplainRequest, ExplainResponse, GetInfoRequest, GetInfoResponse, agent_server::Agent};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub struct InfoService {
    pub shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Agent for InfoService {
    async fn get_info(&self, request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let peer = attest::peer(&request)?;
        let server = self.shared.server.load_full().ok_or_else(|| attest::not_ready(&self.shared))?;
        let task = attest::innermost(&self.shared, &peer)?;
        attest::recheck(&peer)?;
        Ok(Response::new(GetInfoResponse {
            trust_domain: self.shared.trust_domain.to_string(),
            issuer: server.issuer.clone(),
            token_endpoint: server.token_endpoint.clone(),
            mtls_token_endpoint: server.mtls_token_endpoint.clone(),
            ca_pem: server.ca_pem.clone(),
            masked_json: server.masked_json.clone(),
            task_id: task.map(|t| t.id.to_string()).unwrap_or_default(),
            launch_socket: self.shared.launch_socket.display().to_string(),
            problem: self.shared.problem().unwrap_or_default(),
        }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let peer = attest::peer(&request)?;
        explain::explain(&self.shared, &peer, request.get_ref().pid).await.map(Response::new)
    }
}
