//! The SVIDs of a task: asked for when somebody wants one, with a key of its own each time, never served past its end.

use super::{LiveTask, TaskSvid};
use crate::{keys::KeyRequest, shared::Shared, upstream::timed, x509::X509Svid};
use agent_core::rotation;
use proto_types::{Secret, Timestamp};
use proto_wire::errand::v1::{NewTaskJwtsvidRequest, NewTaskX509svidRequest};
use std::sync::Arc;
use tonic::Status;

/// The wait before a failed renewal is tried again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(2);

impl TaskSvid {
    /// `ends_at` is the task's end.
    pub fn new(shared: &Shared, svid: X509Svid, subject_token: Option<Secret<String>>, ends_at: Timestamp) -> Self {
        let due = rotation::due(svid.not_before, svid.not_after, shared.ports.jitter());
        // Certificates know whole seconds. One that lasts to the end of its task has no successor to be asked for.
        let is_last = svid.not_after.as_secs() >= ends_at.as_secs();
        let renew_at = if is_last { ends_at } else { due };
        Self { svid, subject_token, renew_at }
    }
}

/// A usable SVID of the task: the held one before its half-life, else a new one. When that fails, the held one as long
/// as it lasts.
pub async fn task_svid(shared: &Shared, task: &LiveTask) -> Result<Arc<TaskSvid>, Status> {
    let fresh = |now: Timestamp| task.current(now).filter(|s| now < s.renew_at);
    if let Some(held) = fresh(shared.ports.clock.now()) {
        return Ok(held);
    }
    let _turn = task.renewing.lock().await;
    // Whoever had the turn before may have renewed it.
    if let Some(held) = fresh(shared.ports.clock.now()) {
        return Ok(held);
    }
    match fetch(shared, task).await {
        Ok(new) => {
            let new = Arc::new(new);
            task.svid.store(Some(new.clone()));
            // The task may have ended while the server answered; the order here and in `finish` leaves no gap.
            if task.end_reason().is_some() {
                task.svid.store(None);
                return Err(Status::permission_denied("the task is over"));
            }
            Ok(new)
        }
        Err(status) => match task.current(shared.ports.clock.now()) {
            Some(held) => {
                tracing::warn!(task = %task.id, code = ?status.code(), "the task's SVID is not renewed");
                Ok(postponed(shared, task, &held))
            }
            None => Err(status),
        },
    }
}

/// The same SVID, to be tried again a little later, so that a server that is away is not asked without pause.
fn postponed(shared: &Shared, task: &LiveTask, held: &Arc<TaskSvid>) -> Arc<TaskSvid> {
    let s = &held.svid;
    let svid = X509Svid {
        spiffe_id: s.spiffe_id.clone(),
        chain: s.chain.clone(),
        key: s.key.clone(),
        not_before: s.not_before,
        not_after: s.not_after,
    };
    let renew_at = shared.ports.clock.now().plus(RETRY);
    let again = Arc::new(TaskSvid { svid, subject_token: held.subject_token.clone(), renew_at });
    task.svid.store(Some(again.clone()));
    again
}

async fn fetch(shared: &Shared, task: &LiveTask) -> Result<TaskSvid, Status> {
    shared.takes_new()?;
    let request = KeyRequest::generate().map_err(|e| Status::internal(e.to_string()))?;
    let message = NewTaskX509svidRequest { task_id: task.id.to_string(), csr: request.csr.clone() };
    let answer = shared.upstream.node().new_task_x509svid(timed(message)).await?.into_inner();
    let expected = task_id_of(task);
    let svid = X509Svid::accept(&answer.svid.unwrap_or_default(), request, expected.as_ref())
        .map_err(|e| Status::internal(format!("the server's SVID for the task cannot be used: {e}")))?;
    let issuer = shared.server.load().as_ref().map(|s| s.issuer.clone()).filter(|i| !i.is_empty());
    let token = match issuer {
        Some(issuer) => Some(task_jwt(shared, task, vec![issuer]).await?.0),
        None => None,
    };
    Ok(TaskSvid::new(shared, svid, token, task.ends_at))
}

/// `<workload>/task/<id>`.
pub fn task_id_of(task: &LiveTask) -> Option<proto_types::SpiffeId> {
    proto_types::id::parse_spiffe_id(&format!("{}/task/{}", task.workload, task.id)).ok()
}

/// A JWT-SVID of the task, and when it expires. Not kept: each is recorded for the call it was made for.
pub async fn task_jwt(
    shared: &Shared,
    task: &LiveTask,
    audience: Vec<String>,
) -> Result<(Secret<String>, Timestamp), Status> {
    shared.takes_new()?;
    let message = NewTaskJwtsvidRequest { task_id: task.id.to_string(), audience };
    let answer = shared.upstream.node().new_task_jwtsvid(timed(message)).await?.into_inner();
    let svid = answer.svid.ok_or_else(|| Status::internal("the server's answer carries no JWT-SVID"))?;
    if task.end_reason().is_some() {
        return Err(Status::permission_denied("the task is over"));
    }
    Ok((Secret::new(svid.token), Timestamp::from_secs(svid.expires_at)))
}
