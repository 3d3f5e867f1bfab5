//! `errand.v1.Node`: push to agents, and tasks of processes that an agent pinned. Every call is an agent's.

use super::{bundle::bundle_out, caller::agent_caller, jwt_out, proven_key, x509_out};
use crate::{
    Api,
    status::{status, wire},
};
use futures_util::Stream;
use proto_types::{EndReason, EntryId, RoleName, TaskId};
use proto_wire::{
    convert::{entry_out, selectors_in},
    errand::v1::{
        CheckpointRequest, CheckpointResponse, EndTaskRequest, EndTaskResponse, NewTaskJwtsvidRequest,
        NewTaskJwtsvidResponse, NewTaskX509svidRequest, NewTaskX509svidResponse, ServerInfo, StartTaskRequest,
        StartTaskResponse, TaskEnded, WatchRequest, WatchResponse, node_server::Node,
    },
    spire::api::types::X509svid,
};
use server_service::{NewTask, NodeUpdate};
use std::{pin::Pin, time::Duration};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Most attested facts of one process.
const MAX_SELECTORS: usize = 256;

pub(crate) struct Service(pub Api);

impl Service {
    fn server_info(&self) -> ServerInfo {
        let settings = self.0.service.settings();
        let bundle = self.0.service.ports().authorities.bundle();
        ServerInfo {
            trust_domain: settings.trust_domain.to_string(),
            issuer: settings.issuer.clone(),
            token_endpoint: settings.token_endpoint.clone(),
            mtls_token_endpoint: settings.mtls_token_endpoint.clone(),
            ca_pem: bundle.x509.iter().map(|der| crate::tls::pem("CERTIFICATE", der)).collect(),
            masked_json: settings.masked_json.clone(),
        }
    }

    fn message(&self, update: NodeUpdate) -> WatchResponse {
        let server = (update.reset || update.bundle.is_some()).then(|| self.server_info());
        WatchResponse {
            position: update.position,
            reset: update.reset,
            entries: update.entries.iter().map(|e| entry_out(e)).collect(),
            removed_entry_ids: update.removed.iter().map(ToString::to_string).collect(),
            bundle: update.bundle.map(|_| bundle_out(&self.0, None)),
            ended_tasks: update
                .ended
                .into_iter()
                .map(|(id, reason)| TaskEnded { task_id: id.to_string(), reason: reason.into() })
                .collect(),
            live_task_ids: update.live.iter().map(ToString::to_string).collect(),
            server,
        }
    }
}

fn task_id(text: &str) -> Result<TaskId, Status> {
    text.parse().map_err(|e: proto_types::IdError| Status::invalid_argument(e.to_string()))
}

#[tonic::async_trait]
impl Node for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let mut watch = self.0.service.watch(&caller).await.map_err(status)?;
        let service = Self(self.0.clone());
        let (tx, rx) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = watch.next() => next,
                    () = tx.closed() => return,
                };
                let ended = next.is_err();
                let message = next.map(|u| service.message(u)).map_err(status);
                if tx.send(message).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn start_task(&self, request: Request<StartTaskRequest>) -> Result<Response<StartTaskResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let r = request.into_inner();
        let invalid = |e: proto_types::IdError| Status::invalid_argument(e.to_string());
        if r.grants.len() > 64 {
            return Err(Status::invalid_argument("a task has at most 16 grants"));
        }
        let new = NewTask {
            entry: EntryId::new(r.entry_id).map_err(invalid)?,
            intent: r.intent,
            grants: r.grants.iter().map(|g| g.parse::<RoleName>()).collect::<Result<_, _>>().map_err(invalid)?,
            ttl: (r.ttl_seconds > 0).then(|| Duration::from_secs(r.ttl_seconds.into())),
            parent: if r.parent_task_id.is_empty() { None } else { Some(task_id(&r.parent_task_id)?) },
            handle: r.handle,
            selectors: selectors_in(&r.selectors, MAX_SELECTORS).map_err(wire)?,
            uid: r.uid,
            launcher_isolated: r.launcher_isolated,
            key: proven_key(&r.csr, &self.0)?,
        };
        let started = self.0.service.task_start(&caller, new).await.map_err(status)?;
        self.0.metrics.task_started();
        Ok(Response::new(StartTaskResponse {
            task_id: started.task.id.to_string(),
            ends_at: started.task.ends_at.as_millis(),
            svid: Some(X509svid {
                cert_chain: started.svid.chain,
                id: Some(proto_wire::convert::spiffe_id_out(&started.id)),
                expires_at: started.svid.not_after.as_secs(),
                hint: "task".into(),
            }),
            subject_token: started.subject_token.token.expose().clone(),
        }))
    }

    async fn new_task_x509svid(
        &self,
        request: Request<NewTaskX509svidRequest>,
    ) -> Result<Response<NewTaskX509svidResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let r = request.into_inner();
        let key = proven_key(&r.csr, &self.0)?;
        let issued = self.0.service.x509_for_task(&caller, task_id(&r.task_id)?, &key).await.map_err(status)?;
        self.0.metrics.issued("x509");
        Ok(Response::new(NewTaskX509svidResponse { svid: Some(x509_out(issued)) }))
    }

    async fn new_task_jwtsvid(
        &self,
        request: Request<NewTaskJwtsvidRequest>,
    ) -> Result<Response<NewTaskJwtsvidResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let r = request.into_inner();
        let issued = self.0.service.jwt_for_task(&caller, task_id(&r.task_id)?, &r.audience).await.map_err(status)?;
        self.0.metrics.issued("jwt");
        Ok(Response::new(NewTaskJwtsvidResponse { svid: Some(jwt_out(issued)) }))
    }

    async fn end_task(&self, request: Request<EndTaskRequest>) -> Result<Response<EndTaskResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let r = request.into_inner();
        let reason = match r.reason.as_str() {
            "completed" => EndReason::Completed,
            "process_gone" => EndReason::ProcessGone,
            "revoked" => EndReason::Revoked,
            "deadline" => EndReason::Deadline,
            _ => {
                return Err(Status::invalid_argument(
                    "an agent ends tasks as completed, process_gone, revoked or deadline",
                ));
            }
        };
        let open = self.0.service.task_end_by_agent(&caller, task_id(&r.task_id)?, reason).await.map_err(status)?;
        Ok(Response::new(EndTaskResponse { open_leases: u32::try_from(open).unwrap_or(u32::MAX) }))
    }

    async fn checkpoint(&self, request: Request<CheckpointRequest>) -> Result<Response<CheckpointResponse>, Status> {
        agent_caller(&self.0, &request).await?;
        let seen = request.get_ref().seen_size;
        let read = |e: server_core::ports::ReadError| status(e.into());
        let (archive, meta) = (&self.0.service.ports().archive, self.0.service.meta());
        let note = archive.checkpoint().await.map_err(read)?;
        let size = note.as_ref().and_then(|n| n.claims().ok()).map_or(0, |c| c.size);
        // A journal that went back has no proof, and the agent sees by the note that it did.
        let path = if seen > 0 && seen < size { archive.consistency(seen, size).await.map_err(read)? } else { None };
        Ok(Response::new(CheckpointResponse {
            store_id: meta.store_id.clone(),
            epoch: meta.epoch,
            note: note.map(|n| n.to_string()).unwrap_or_default(),
            keys: self.0.admin.journal_keys().iter().map(ToString::to_string).collect(),
            consistency: path.unwrap_or_default().iter().map(|hash| hash.to_vec()).collect(),
            now: self.0.service.ports().clock.now().as_millis(),
        }))
    }
}
