//! `errand.v1.Task` on the agent's socket. The caller is the pinned process; a task id alone is never authority.

use super::{LiveTask, TaskSvid, credentials::task_svid, start::start};
use crate::{
    local::{Peer, attest, stream::Answers},
    shared::Shared,
};
use agent_core::membership::Membership;
use proto_types::TaskId;
use proto_wire::errand::v1::{
    EndRequest, EndResponse, StartRequest, StartResponse, WatchTaskRequest, WatchTaskResponse, task_server::Task,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

/// How long `Complete` and `Revoke` wait for the server's word; the end stands without it.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// The service.
pub struct TaskService {
    pub shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Task for TaskService {
    type StartStream = Answers<StartResponse>;
    type WatchStream = Answers<WatchTaskResponse>;

    async fn start(&self, request: Request<StartRequest>) -> Result<Response<Self::StartStream>, Status> {
        let (peer, permit) = attest::stream_peer(&request)?;
        let (shared, message) = (self.shared.clone(), request.into_inner());
        // In a task of its own: a caller that hangs up while the server answers must not leave a task nobody knows.
        let (tx, rx) = oneshot::channel();
        let starter = peer.clone();
        self.shared.spawn(async move {
            let started = start(&shared, &starter, message).await;
            if let Err(Ok(unwanted)) = tx.send(started) {
                shared.tasks.end_here(unwanted.id, "process_gone", true);
            }
        });
        let task = rx.await.map_err(|_| attest::stopping())??;
        let (answers, stream) = Answers::channel(permit);
        self.shared.spawn(deliver(self.shared.clone(), peer, task, answers));
        Ok(Response::new(stream))
    }

    async fn watch(&self, request: Request<WatchTaskRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (peer, permit) = attest::stream_peer(&request)?;
        let innermost = attest::innermost(&self.shared, &peer)?;
        let task = innermost.ok_or_else(|| Status::not_found("the caller is in no task"))?;
        let (answers, stream) = Answers::channel(permit);
        self.shared.spawn(follow(peer, task, answers));
        Ok(Response::new(stream))
    }

    async fn complete(&self, request: Request<EndRequest>) -> Result<Response<EndResponse>, Status> {
        self.end(request, "completed").await
    }

    async fn revoke(&self, request: Request<EndRequest>) -> Result<Response<EndResponse>, Status> {
        self.end(request, "revoked").await
    }
}

impl TaskService {
    async fn end(&self, request: Request<EndRequest>, reason: &str) -> Result<Response<EndResponse>, Status> {
        let peer = attest::peer(&request)?;
        let id = self.allowed(&peer, &request.get_ref().task_id)?;
        attest::recheck(&peer)?;
        let over = || Status::failed_precondition("the task is over");
        let heard = self.shared.tasks.end_here(id, reason, true).ok_or_else(over)?;
        tokio::select! {
            open = heard => Ok(Response::new(EndResponse { open_leases: open.map_err(|_| attest::stopping())? })),
            () = self.shared.ports.clock.sleep(ACKNOWLEDGED_WITHIN) => Err(Status::unavailable(
                "the task has ended on this node; the server does not answer and will be told until it does",
            )),
        }
    }

    /// The task that the caller may end: its innermost one, or one that it launched.
    fn allowed(&self, peer: &Peer, wanted: &str) -> Result<TaskId, Status> {
        let membership = attest::membership(&self.shared, peer)?;
        let launched = self.shared.tasks.launched_by(peer.caller());
        if wanted.is_empty() {
            return match (membership, launched.as_slice()) {
                (Membership::Member(id), _) => Ok(id),
                (Membership::Ended(_), _) => Err(Status::failed_precondition("the task is over")),
                (Membership::Outside, [only]) => Ok(only.id),
                (Membership::Outside, []) => Err(Status::not_found("the caller is in no task and launched none")),
                (Membership::Outside, _) => {
                    Err(Status::invalid_argument("the caller launched several tasks; name one in `task_id`"))
                }
            };
        }
        let id: TaskId = wanted.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
        if membership == Membership::Member(id) || launched.iter().any(|t| t.id == id) {
            return Ok(id);
        }
        // One answer whether or not there is such a task: its existence is not the caller's to know.
        Err(Status::permission_denied("a task is ended by its launcher or from within; this caller is neither"))
    }
}

/// The identity of the task now and after each renewal, then how it ended.
async fn deliver(
    shared: Arc<Shared>,
    peer: Peer,
    task: Arc<LiveTask>,
    answers: mpsc::Sender<Result<StartResponse, Status>>,
) {
    let mut sent: Option<Arc<TaskSvid>> = None;
    loop {
        let place = tokio::select! {
            place = answers.reserve() => place,
            () = peer.exited() => return,
        };
        // A reader that hung up: the task lives on with its launcher.
        let Ok(place) = place else { return };
        let now = tokio::select! {
            now = task_svid(&shared, &task) => now,
            reason = task.ended() => return place.send(Ok(last(&task, reason))),
        };
        let renew_at = match now {
            Ok(svid) => {
                let renew_at = svid.renew_at;
                if sent.as_ref().is_none_or(|s| s.svid.chain != svid.svid.chain) {
                    if let Err(status) = attest::recheck(&peer) {
                        return place.send(Err(status));
                    }
                    place.send(Ok(identity(&shared, &task, &svid)));
                    sent = Some(svid);
                }
                renew_at
            }
            // Nothing is held any more and the server gives nothing: the caller decides whether to go on.
            Err(status) => match task.end_reason() {
                Some(reason) => return place.send(Ok(last(&task, reason))),
                None => return place.send(Err(status)),
            },
        };
        tokio::select! {
            reason = task.ended() => {
                // The last word waits for a slow reader; the task is over all the same.
                _ = answers.send(Ok(last(&task, reason))).await;
                return;
            }
            () = shared.ports.sleep_until(renew_at) => {}
            () = answers.closed() => return,
            () = peer.exited() => return,
        }
    }
}

fn identity(shared: &Shared, task: &LiveTask, held: &TaskSvid) -> StartResponse {
    StartResponse {
        task_id: task.id.to_string(),
        spiffe_id: held.svid.spiffe_id.to_string(),
        x509_svid: held.svid.chain_der(),
        x509_svid_key: held.svid.key.expose().clone(),
        bundle: shared.bundle.load().as_ref().map(|b| b.x509_der().to_vec()).unwrap_or_default(),
        subject_token: held.subject_token.as_ref().map(|t| t.expose().clone()).unwrap_or_default(),
        ends_at: task.ends_at.as_millis(),
        end_reason: String::new(),
    }
}

fn last(task: &LiveTask, reason: String) -> StartResponse {
    StartResponse {
        task_id: task.id.to_string(),
        ends_at: task.ends_at.as_millis(),
        end_reason: reason,
        ..StartResponse::default()
    }
}

async fn follow(peer: Peer, task: Arc<LiveTask>, answers: mpsc::Sender<Result<WatchTaskResponse, Status>>) {
    let message = |state: &str, end_reason: String| WatchTaskResponse {
        task_id: task.id.to_string(),
        state: state.into(),
        end_reason,
        ends_at: task.ends_at.as_millis(),
    };
    if attest::recheck(&peer).is_err() || answers.send(Ok(message("active", String::new()))).await.is_err() {
        return;
    }
    tokio::select! {
        reason = task.ended() => {
            // A caller that hung up meanwhile needs no last word.
            _ = answers.send(Ok(message("ended", reason))).await;
        }
        () = answers.closed() => {}
        () = peer.exited() => {}
    }
}
