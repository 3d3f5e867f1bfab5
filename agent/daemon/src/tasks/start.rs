//! Starting a task: the caller attested, its entry chosen, its launch redeemed, the server asked, the result written
//! down before anything of it is handed out.

use super::{LiveTask, MAX_TASKS, TaskSvid, guard, live::Beginning, live::pinned_doc};
use crate::{
    keys::KeyRequest,
    local::{Peer, attest},
    shared::Shared,
    upstream::timed,
    x509::X509Svid,
};
use agent_core::{cache::Selectors, membership::Membership};
use agent_workload::Measured;
use proto_types::{Entry, RoleName, Secret, TaskId, Timestamp, id::excerpt};
use proto_wire::{
    convert::selector_out,
    errand::v1::{StartRequest, StartTaskRequest},
};
use std::sync::Arc;
use tonic::Status;

/// Bounds of a request; policy and the server have stricter ones.
const MAX_INTENT: usize = 4096;
const MAX_GRANTS: usize = 64;

/// Starts a task for the process at the other end.
pub async fn start(shared: &Arc<Shared>, peer: &Peer, request: StartRequest) -> Result<Arc<LiveTask>, Status> {
    check(&request)?;
    let caller = peer.caller();
    let mut selectors = (*attest::selectors(shared, peer).await?).clone();
    let parent = parent(shared, peer)?;
    let measured = redeem(shared, peer, &request.launch_id)?;
    selectors.extend(measured.iter().flat_map(|m| m.selectors()));
    let entry = choose(shared, &selectors, &request.spiffe_id)?;
    if shared.tasks.live_ids().len() >= MAX_TASKS {
        return Err(Status::resource_exhausted(format!("this node already has {MAX_TASKS} tasks; end some")));
    }
    let key = KeyRequest::generate().map_err(|e| Status::internal(e.to_string()))?;
    let handle = measured.is_none();
    shared.takes_new()?;
    let message = StartTaskRequest {
        entry_id: entry.id.as_str().into(),
        intent: request.intent,
        grants: request.grants,
        ttl_seconds: request.ttl_seconds,
        parent_task_id: parent.map(|t| t.to_string()).unwrap_or_default(),
        handle,
        selectors: selectors.iter().map(selector_out).collect(),
        uid: agent_core::Caller::uid(caller),
        // Own uid, unit or container: no attestor of this agent can tell yet, and a guess would widen authority.
        launcher_isolated: false,
        csr: key.csr.clone(),
    };
    let answer = shared.upstream.node().start_task(timed(message)).await?.into_inner();
    let id: TaskId = answer.task_id.parse().map_err(|_| Status::internal("the server's task has no valid id"))?;
    let task = Arc::new(LiveTask::new(Beginning {
        id,
        entry: entry.id.clone(),
        workload: entry.spiffe_id.clone(),
        parent,
        ends_at: Timestamp::from_millis(answer.ends_at),
        handle,
        launcher: pinned_doc(caller),
        measured,
    }));
    shared.tasks.table().live.insert(id, task.clone());
    let launcher = (!handle).then(|| guard::exit_of(caller));
    shared.spawn(guard::run(shared.clone(), task.clone(), launcher, None));
    let expected = super::credentials::task_id_of(&task);
    let svid = X509Svid::accept(&answer.svid.unwrap_or_default(), key, expected.as_ref());
    let ready = match svid {
        Ok(svid) => {
            let token = Some(answer.subject_token).filter(|t| !t.is_empty()).map(Secret::new);
            task.svid.store(Some(Arc::new(TaskSvid::new(shared, svid, token, task.ends_at))));
            // On disk before it is handed out: an agent that is killed now must find the task again.
            shared.tasks.save().await.map_err(|e| Status::unavailable(e.to_string()))
        }
        Err(e) => Err(Status::internal(format!("the server's SVID for the task cannot be used: {e}"))),
    };
    if let Err(status) = ready.and_then(|()| attest::recheck(peer)) {
        shared.tasks.end_here(id, "process_gone", true);
        return Err(status);
    }
    tracing::info!(task = %id, workload = %task.workload, handle, "task started");
    Ok(task)
}

fn check(request: &StartRequest) -> Result<(), Status> {
    if request.intent.len() > MAX_INTENT {
        return Err(Status::invalid_argument(format!("an intent has at most {MAX_INTENT} bytes")));
    }
    if request.grants.len() > MAX_GRANTS {
        return Err(Status::invalid_argument(format!("a task has at most {MAX_GRANTS} grants")));
    }
    match request.grants.iter().find(|g| g.parse::<RoleName>().is_err()) {
        Some(bad) => Err(Status::invalid_argument(format!("`{}` is not target/role", excerpt(bad)))),
        None => Ok(()),
    }
}

/// What a member of a task starts is a child of it, whatever was asked.
fn parent(shared: &Shared, peer: &Peer) -> Result<Option<TaskId>, Status> {
    match attest::membership(shared, peer)? {
        Membership::Outside => Ok(None),
        Membership::Member(id) => Ok(Some(id)),
        Membership::Ended(id) => Err(Status::permission_denied(format!("the caller's task {id} is over"))),
    }
}

fn redeem(shared: &Shared, peer: &Peer, launch_id: &str) -> Result<Option<Arc<Measured>>, Status> {
    if launch_id.is_empty() {
        return Ok(None);
    }
    let measured = shared.tasks.launches.redeem(launch_id, peer.caller().key(), shared.ports.clock.now());
    let what = "the launch id is unknown, used, older than a minute or another process's; measure the command again";
    measured.map(Some).ok_or_else(|| Status::failed_precondition(what))
}

/// The first entry that matches, or the one of the identity that was asked for.
fn choose(shared: &Shared, selectors: &Selectors, wanted: &str) -> Result<Arc<Entry>, Status> {
    if !shared.is_synced() {
        return Err(attest::not_ready(shared));
    }
    let mut matching = shared.identities.matching(selectors).into_iter();
    let found = matching.find(|e| wanted.is_empty() || e.spiffe_id.to_string() == wanted);
    found.ok_or_else(attest::no_identity)
}
