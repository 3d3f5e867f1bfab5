//! From a request on the socket to who asks and what is true of them; and the refusals that all services share.
//!
//! A dead caller is Unauthenticated, an unknown one PermissionDenied, an agent that is not ready Unavailable.

use super::Peer;
use crate::{shared::Shared, tasks::LiveTask};
use agent_core::{
    AttestError, Caller as _, CallerError, admission::Permit, attest::MAX_CALLER_SELECTORS, cache::Selectors,
    membership::Membership,
};
use futures_util::future::try_join_all;
use std::{sync::Arc, time::Duration};
use tonic::{Request, Status};

/// The longest that all attestors together may take.
pub const ATTEST_WITHIN: Duration = Duration::from_secs(10);

/// There is nothing to serve yet, or no more; why, as far as it is known.
pub fn not_ready(shared: &Shared) -> Status {
    match shared.problem() {
        Some(why) => Status::unavailable(format!("the agent has nothing to serve: {why}")),
        None => Status::unavailable("the agent has not heard from the server yet; try again"),
    }
}

pub fn stopping() -> Status {
    Status::unavailable("the agent is stopping; try again")
}

pub fn no_identity() -> Status {
    Status::permission_denied("no identity issued")
}

fn caller_refused(e: &CallerError) -> Status {
    match e {
        CallerError::Exited { .. } | CallerError::Changed { .. } => Status::unauthenticated(e.to_string()),
        CallerError::Unreadable { .. } => Status::unavailable(e.to_string()),
    }
}

/// Who is at the other end. Every request on this socket has a peer.
pub fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::unauthenticated("the peer is not known"))
}

/// The same, and one of the uid's places for a stream.
pub fn stream_peer<T>(request: &Request<T>) -> Result<(Peer, Permit), Status> {
    let peer = peer(request)?;
    let permit = peer.gate().streams.enter(peer.caller().uid());
    let permit = permit.map_err(|_| Status::resource_exhausted("too many open streams; close some"))?;
    Ok((peer, permit))
}

/// That the caller lives and is who it was when it connected. Before every reply.
pub fn recheck(peer: &Peer) -> Result<(), Status> {
    peer.caller().recheck().map_err(|e| caller_refused(&e))
}

/// What is true of the caller now, by all attestors at once.
pub async fn selectors(shared: &Shared, peer: &Peer) -> Result<Arc<Selectors>, Status> {
    let caller = peer.caller();
    let all = try_join_all(shared.attestors.iter().map(|a| a.attest(caller)));
    let found = tokio::select! {
        found = all => found,
        () = shared.ports.clock.sleep(ATTEST_WITHIN) => {
            return Err(Status::unavailable("the caller could not be attested in time; try again"));
        }
    };
    let found: Selectors = found.map_err(|e| attest_refused(&e))?.into_iter().flatten().collect();
    if found.len() > MAX_CALLER_SELECTORS {
        return Err(Status::unavailable(format!("the caller has more than {MAX_CALLER_SELECTORS} selectors")));
    }
    // What was read is of this process only if it is still the one that connected.
    recheck(peer)?;
    Ok(Arc::new(found))
}

fn attest_refused(e: &AttestError) -> Status {
    match e {
        AttestError::Caller(e) => caller_refused(e),
        e => {
            tracing::warn!(error = %e, "a caller cannot be attested");
            Status::unavailable(e.to_string())
        }
    }
}

/// Which task the caller is in.
pub fn membership(shared: &Shared, peer: &Peer) -> Result<Membership, Status> {
    shared.tasks.membership(peer.caller()).map_err(|e| {
        tracing::debug!(error = %e, "membership is not known");
        Status::unavailable(e.to_string())
    })
}

/// The caller's innermost live task.
pub fn innermost(shared: &Shared, peer: &Peer) -> Result<Option<Arc<LiveTask>>, Status> {
    match membership(shared, peer)? {
        Membership::Member(id) => Ok(shared.tasks.get(&id)),
        Membership::Outside | Membership::Ended(_) => Ok(None),
    }
}
