//! `errand.v1.Task`.

use super::{Shared, TASK, WORKLOAD, agent::marked};
use proto_wire::errand::v1::{
    EndRequest, EndResponse, StartRequest, StartResponse, WatchTaskRequest, WatchTaskResponse, task_server,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

pub type Sender = mpsc::Sender<Result<StartResponse, Status>>;

pub struct Tasks(pub Arc<Shared>);

#[tonic::async_trait]
impl task_server::Task for Tasks {
    type StartStream = ReceiverStream<Result<StartResponse, Status>>;
    type WatchStream = ReceiverStream<Result<WatchTaskResponse, Status>>;

    async fn start(&self, request: Request<StartRequest>) -> Result<Response<Self::StartStream>, Status> {
        marked(&request)?;
        let shared = &self.0;
        shared.seen.lock().unwrap().starts.push(request.into_inner());
        let spiffe_id = format!("{WORKLOAD}/task/{TASK}");
        let svid = shared.authority.svid(&spiffe_id);
        let (send, receive) = mpsc::channel(8);
        let ends_at = shared.now().plus(shared.script.lock().unwrap().task_ttl).as_millis();
        let first = StartResponse {
            task_id: TASK.into(),
            spiffe_id,
            x509_svid: svid.der,
            x509_svid_key: svid.key,
            bundle: shared.authority.der.clone(),
            subject_token: "token-of-the-task".into(),
            ends_at,
            end_reason: String::new(),
        };
        send.send(Ok(first)).await.unwrap();
        shared.streams.lock().unwrap().push(send);
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn watch(&self, _: Request<WatchTaskRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not asked by `errand run`"))
    }

    async fn complete(&self, request: Request<EndRequest>) -> Result<Response<EndResponse>, Status> {
        marked(&request)?;
        self.0.seen.lock().unwrap().completed.push(request.into_inner().task_id);
        Ok(Response::new(EndResponse { open_leases: 0 }))
    }

    async fn revoke(&self, request: Request<EndRequest>) -> Result<Response<EndResponse>, Status> {
        marked(&request)?;
        self.0.seen.lock().unwrap().revoked.push(request.into_inner().task_id);
        Ok(Response::new(EndResponse { open_leases: 0 }))
    }
}
