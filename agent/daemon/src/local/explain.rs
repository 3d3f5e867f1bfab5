//! Why a process gets, or does not get, an identity: what the attestors found of it, which entries that earns, and which
//! it misses by one selector.
//!
//! Selectors tell what a process is and runs, so they are told to root and to the process's own uid only. An entry that
//! shares nothing with the process is told to root only: it is somebody else's.

use super::{Peer, attest};
use crate::shared::Shared;
use agent_core::{Caller as _, cache::Selectors, membership::Membership};
use agent_workload::{PinError, PinnedCaller};
use futures_util::future::join_all;
use proto_types::{Entry, Selector};
use proto_wire::{
    convert::{entry_out, selector_out},
    errand::v1::{ExplainResponse, ExplainedEntry},
};
use std::sync::Arc;
use tonic::Status;

/// Near misses told at most.
const MAX_NEAR: usize = 50;

/// What `peer` may know about process `pid`.
pub async fn explain(shared: &Shared, peer: &Peer, pid: i32) -> Result<ExplainResponse, Status> {
    let process = shared.witness.pin_pid(pid).map_err(|e| not_pinned(&e))?;
    let asker = peer.caller().uid();
    if !may_ask(asker, process.uid()) {
        return Err(Status::permission_denied(format!("process {pid} is another user's; ask as that user or as root")));
    }
    let (selectors, problems) = found(shared, &process).await?;
    let task = shared.tasks.membership(&process).map_err(|e| Status::unavailable(e.to_string()))?;
    let matching = shared.identities.matching(&selectors).into_iter().map(|entry| explained(&entry, None));
    let mut near = shared.identities.near(&selectors);
    near.retain(|(entry, _)| may_see(asker, &selectors, entry));
    near.truncate(MAX_NEAR);
    let near = near.iter().map(|(entry, missing)| explained(entry, Some(missing)));
    let entries = matching.chain(near).collect();
    attest::recheck(peer)?;
    process.recheck().map_err(|e| Status::not_found(e.to_string()))?;
    Ok(ExplainResponse {
        agent_id: shared.identity.get().map(|i| i.svid.spiffe_id.to_string()).unwrap_or_default(),
        uid: process.uid(),
        selectors: selectors.iter().map(selector_out).collect(),
        problems,
        entries,
        task_id: match task {
            Membership::Member(id) => id.to_string(),
            Membership::Outside | Membership::Ended(_) => String::new(),
        },
        synced: shared.is_synced(),
    })
}

/// Root, and the user whose process it is.
const fn may_ask(asker: u32, owner: u32) -> bool {
    asker == 0 || asker == owner
}

/// An entry that shares nothing with the process is somebody else's.
fn may_see(asker: u32, selectors: &Selectors, entry: &Entry) -> bool {
    asker == 0 || entry.selectors.iter().any(|s| selectors.contains(s))
}

fn not_pinned(error: &PinError) -> Status {
    match error {
        PinError::Exited { .. } => Status::not_found(error.to_string()),
        error => Status::failed_precondition(error.to_string()),
    }
}

/// What each attestor found, and what those say that failed: one that fails costs a workload its identity.
async fn found(shared: &Shared, process: &PinnedCaller) -> Result<(Selectors, Vec<String>), Status> {
    let all = join_all(shared.attestors.iter().map(|a| a.attest(process)));
    let answers = tokio::select! {
        answers = all => answers,
        () = shared.ports.clock.sleep(attest::ATTEST_WITHIN) => {
            return Err(Status::unavailable("the process could not be attested in time; try again"));
        }
    };
    let (mut selectors, mut problems) = (Selectors::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(found) => selectors.extend(found),
            Err(error) => problems.push(error.to_string()),
        }
    }
    Ok((selectors, problems))
}

fn explained(entry: &Arc<Entry>, missing: Option<&Selector>) -> ExplainedEntry {
    ExplainedEntry { entry: Some(entry_out(entry)), missing: missing.map(selector_out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_of_to_root_and_to_its_own_user_only() {
        assert!(may_ask(0, 1000) && may_ask(1000, 1000));
        assert!(!may_ask(1001, 1000) && !may_ask(1000, 0));
    }
}
