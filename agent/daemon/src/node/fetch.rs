//! Getting the SVIDs that the cache says are due: keys made here, at most 500 requests in a batch, a few batches at once.

use crate::{
    keys::{KeyError, KeyRequest},
    shared::Shared,
    trouble::About,
    upstream::timed,
    x509::X509Svid,
};
use agent_core::cache::Work;
use proto_types::Timestamp;
use proto_wire::spire::api::server::svid::v1::{BatchNewX509svidRequest, NewX509svidParams};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Most requests in one batch: what SPIRE servers take.
const BATCH: usize = 500;
const BATCHES_AT_ONCE: usize = 4;
/// Below this many keys, making them costs less than a thread would.
const FEW: usize = 8;

/// Fetches whatever is due until the agent stops.
pub async fn run(shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(BATCHES_AT_ONCE));
    loop {
        // Without an identity every call would fail; what is due stays due.
        shared.identified().await;
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let work = shared.identities.due(BATCH);
        if work.is_empty() {
            drop(slot);
            let wake_at = shared.identities.wake_at();
            tokio::select! {
                () = shared.identities.work() => {}
                () = until(&shared, wake_at) => {}
            }
            continue;
        }
        let batch = shared.clone();
        shared.spawn(async move {
            fetch(&batch, work).await;
            drop(slot);
        });
    }
}

async fn until(shared: &Shared, at: Option<Timestamp>) {
    match at {
        Some(at) => shared.ports.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn fetch(shared: &Shared, work: Vec<Work>) {
    let generation = *shared.generation.borrow();
    let keys = match make_keys(work.len()).await {
        Ok(keys) => keys,
        Err(e) => {
            tracing::error!(error = %e, "no key for a workload can be made");
            return work.iter().for_each(|w| shared.identities.failed(w));
        }
    };
    let param =
        |(w, k): (&Work, &KeyRequest)| NewX509svidParams { entry_id: w.entry.id.as_str().into(), csr: k.csr.clone() };
    let params = work.iter().zip(&keys).map(param).collect();
    let answer = match shared.takes_new() {
        Ok(()) => shared.upstream.svids().batch_new_x509svid(timed(BatchNewX509svidRequest { params })).await,
        Err(not_taken) => {
            tracing::warn!(why = %not_taken.message(), svids = work.len(), "SVIDs were not asked for");
            return work.iter().for_each(|w| shared.identities.failed(w));
        }
    };
    let mut results = match answer {
        Ok(answer) => {
            shared.troubles.clear(About::Svids);
            answer.into_inner().results.into_iter()
        }
        Err(status) => {
            shared.note_refusal(&status, generation);
            let why = shared.upstream.why(&status);
            tracing::warn!(code = ?status.code(), %why, svids = work.len(), "SVIDs were not fetched");
            shared.troubles.set(About::Svids, format!("the server gave no SVIDs: {why}"));
            return work.iter().for_each(|w| shared.identities.failed(w));
        }
    };
    for (work, key) in work.into_iter().zip(keys) {
        let svid = results.next().and_then(|r| r.svid).unwrap_or_default();
        match X509Svid::accept(&svid, key, Some(&work.entry.spiffe_id)) {
            // An entry that changed meanwhile has its own fetch; this one is of no use.
            Ok(svid) => _ = shared.identities.arrived(&work, svid),
            Err(e) => {
                tracing::warn!(entry = %work.entry.id, error = %e, "the server gave no SVID for an entry");
                shared.identities.failed(&work);
            }
        }
    }
}

async fn make_keys(count: usize) -> Result<Vec<KeyRequest>, KeyError> {
    let make = move || (0..count).map(|_| KeyRequest::generate()).collect();
    if count <= FEW {
        return make();
    }
    // Hundreds of keys would hold up every stream of this thread.
    tokio::task::spawn_blocking(make).await.unwrap_or_else(|_| Err(KeyError::stopped()))
}
