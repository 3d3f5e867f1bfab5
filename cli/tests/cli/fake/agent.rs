//! The agent's unix socket, and what it says of its server.

use super::{Shared, TASK, tasks::Tasks, workload::Workload};
use proto_wire::{
    errand::v1::{ExplainRequest, ExplainResponse, GetInfoRequest, GetInfoResponse, agent_server, task_server},
    workload::spiffe_workload_api_server::SpiffeWorkloadApiServer,
};
use std::sync::Arc;
use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

pub fn serve(shared: Arc<Shared>, token_port: u16) -> JoinHandle<()> {
    let listener = UnixListener::bind(shared.socket()).unwrap();
    let router = Server::builder()
        .add_service(agent_server::AgentServer::new(Agent { shared: shared.clone(), token_port }))
        .add_service(task_server::TaskServer::new(Tasks(shared.clone())))
        .add_service(SpiffeWorkloadApiServer::new(Workload(shared)));
    tokio::spawn(async move {
        let _ = router.serve_with_incoming(UnixListenerStream::new(listener)).await;
    })
}

/// A call without the security header is refused, as every SPIFFE agent does.
pub fn marked<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get("workload.spiffe.io") {
        Some(value) if value == "true" => Ok(()),
        _ => Err(Status::invalid_argument("no security header")),
    }
}

struct Agent {
    shared: Arc<Shared>,
    token_port: u16,
}

#[tonic::async_trait]
impl agent_server::Agent for Agent {
    async fn get_info(&self, request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        marked(&request)?;
        let script = self.shared.script.lock().unwrap().clone();
        Ok(Response::new(GetInfoResponse {
            trust_domain: "example.org".into(),
            issuer: "https://issuer.example.org".into(),
            token_endpoint: String::new(),
            mtls_token_endpoint: format!("https://127.0.0.1:{}/oauth2/token", self.token_port),
            ca_pem: self.shared.authority.pem.clone(),
            masked_json: script.masks.to_string(),
            task_id: if script.inside { TASK.into() } else { String::new() },
            problem: String::new(),
            launch_socket: self.shared.launch_socket().display().to_string(),
        }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        marked(&request)?;
        Err(Status::unimplemented("this agent knows no entries"))
    }
}
