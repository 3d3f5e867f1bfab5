//! The one stream that keeps the agent current: entries, bundle, tasks that ended, what clients need to know.
//!
//! The first message replaces everything; each later one is a change. When the stream breaks, what is known is kept
//! and served until it expires, and the stream is opened again after a wait with full jitter.

use super::{BACKOFF_CAP, journal, kept::Kept};
use crate::{
    bundle::TrustBundle,
    shared::{AgentStatus, Shared},
    tasks::Tasks,
    trouble::About,
};
use agent_core::cache::Update;
use proto_types::{Entry, EntryId, TaskId, id::excerpt};
use proto_wire::{
    convert::entry_stated,
    errand::v1::{WatchRequest, WatchResponse},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tonic::Status;

/// What the agent says it is.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// With several servers, how long the agent stays with one: then it chooses again, so that a server that was away gets its
/// share back. Half of it is drawn.
const STAYS: Duration = Duration::from_secs(1800);

/// How a watch ended that did not fail.
enum Ended {
    /// By the server.
    Closed,
    /// By the agent, to choose again.
    Moving,
}

/// Follows the server until the agent stops.
pub async fn run(shared: Arc<Shared>, kept: Arc<Kept>) {
    let mut failures = 0u32;
    loop {
        let generation = shared.identified().await;
        let mut changes = shared.generation.subscribe();
        let ended = tokio::select! {
            ended = follow(&shared, &kept, &mut failures) => ended,
            // The identity changed: the new one needs a connection of its own, at once.
            _ = changes.wait_for(|g| *g != generation) => continue,
        };
        shared.journal.disconnected().await;
        match ended {
            Ok(Ended::Moving) => {
                shared.upstream.renew();
                continue;
            }
            Ok(Ended::Closed) => {
                tracing::info!("the server closed the watch");
                shared.troubles.set(About::Server, "the server closed the connection");
            }
            Err(status) => {
                shared.note_refusal(&status, generation);
                let why = shared.upstream.why(&status);
                tracing::warn!(code = ?status.code(), %why, "the watch broke");
                // A doubt is said as what it is.
                if shared.journal.doubt().is_none() {
                    shared.troubles.set(About::Server, format!("the server does not answer: {why}"));
                }
            }
        }
        // Whoever ends a watch is not asked first, when there is another.
        shared.upstream.leave();
        if shared.is_synced() && !matches!(*shared.status.borrow(), AgentStatus::Lost { .. }) {
            shared.set_status(AgentStatus::Disconnected);
        }
        failures = failures.saturating_add(1);
        let wait = shared.ports.backoff(failures, BACKOFF_CAP);
        tokio::select! {
            () = shared.ports.clock.sleep(wait) => {}
            _ = changes.wait_for(|g| *g != generation) => {}
        }
    }
}

async fn follow(shared: &Arc<Shared>, kept: &Kept, failures: &mut u32) -> Result<Ended, Status> {
    // Tasks that were here before the call are committed before the first message was made: only of these does their
    // absence from it mean that they are over.
    let known = shared.tasks.live_ids();
    // A server whose journal is not believed is as good as one that does not answer.
    journal::ask(shared).await?;
    let request = WatchRequest { agent_version: VERSION.into() };
    let mut stream = shared.upstream.node().watch(request).await?.into_inner();
    let mut first = true;
    let mut doubted = std::pin::pin!(journal::follow(shared));
    let mut stayed = std::pin::pin!(stay(shared));
    loop {
        let message = tokio::select! {
            message = stream.message() => message?,
            status = &mut doubted => return Err(status),
            () = &mut stayed => return Ok(Ended::Moving),
        };
        let Some(message) = message else { return Ok(Ended::Closed) };
        if first {
            if !message.reset {
                return Err(Status::internal("the first message of the watch does not replace what is held"));
            }
            if let Err(e) = kept.confirm(shared).await {
                tracing::error!(error = %e, "the agent's identity cannot be written down");
            }
        }
        apply(shared, message, &known).await;
        if first {
            first = false;
            *failures = 0;
            shared.identities.reconnected();
            shared.tasks.server_answers();
            shared.troubles.clear(About::Server);
            shared.set_synced();
        }
    }
}

/// Completes when it is time to choose a server again.
async fn stay(shared: &Shared) {
    match shared.upstream.has_others() {
        true => shared.ports.clock.sleep(STAYS.mul_f64(0.5 + shared.ports.jitter() / 2.0)).await,
        false => std::future::pending().await,
    }
}

async fn apply(shared: &Arc<Shared>, message: WatchResponse, known: &HashSet<TaskId>) {
    if let Some(info) = message.server {
        shared.server.store(Some(Arc::new(info)));
    }
    if let Some(bundle) = &message.bundle {
        match TrustBundle::from_wire(bundle, &shared.trust_domain) {
            Ok(bundle) => shared.set_bundle(Arc::new(bundle)).await,
            Err(e) => tracing::error!(error = %e, "the server's bundle cannot be used; the one before stays"),
        }
    }
    // Ends first: what is over must not be served for the time the entries take.
    for ended in message.ended_tasks {
        if let Ok(id) = ended.task_id.parse() {
            shared.tasks.ended_by_server(id, &ended.reason);
        }
    }
    if message.reset {
        let live: HashSet<TaskId> = message.live_task_ids.iter().filter_map(|id| id.parse().ok()).collect();
        Tasks::reconcile(shared, &live, known);
    }
    let entries: Vec<Entry> = message.entries.iter().filter_map(|e| usable(shared, e)).collect();
    let applied = if message.reset {
        shared.identities.apply(Update::Snapshot(entries))
    } else {
        let gone = message.removed_entry_ids.into_iter().filter_map(|id| EntryId::new(id).ok()).map(Update::Delete);
        gone.chain(entries.into_iter().map(Update::Put)).try_for_each(|u| shared.identities.apply(u))
    };
    if let Err(e) = applied {
        tracing::error!(error = %e, "the server's entries were not taken in");
    }
}

/// An entry that workloads are served. One the agent cannot read is left out: it then gives nobody anything.
fn usable(shared: &Shared, entry: &proto_wire::spire::api::types::Entry) -> Option<Entry> {
    match entry_stated(entry, &shared.trust_domain) {
        Ok(entry) => Some(entry).filter(|e| !e.store_svid),
        Err(e) => {
            tracing::warn!(entry = %excerpt(&entry.id), error = %e, "an entry cannot be read and is left out");
            None
        }
    }
}
