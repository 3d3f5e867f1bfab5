//! What goes on whether anybody calls or not: following, reconciling, scanning, rotating, roots, sinks, tidying, letting go.
//!
//! Decides when each is done. What is done is the service's, the rotator's and the store's.

use crate::{
    config::ServerConfig,
    rotator::Rotator,
    start::{Running, StartError},
};
use server_service::{Change, LOOK_EVERY, Outlet};
use server_sinks::SinkConfig;
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast::error::RecvError;

impl Running {
    /// What goes on whether anybody calls or not.
    pub(crate) fn work(&self, rotator: &Arc<Rotator>) {
        let (service, stop) = (self.service.clone(), self.working.clone());
        self.workers.spawn(async move { service.follow(stop).await });
        if self.store.is_shared() {
            let (service, stop) = (self.service.clone(), self.working.clone());
            self.workers.spawn(async move { service.mind_the_store(stop).await });
        }
        let (service, stop) = (self.service.clone(), self.working.clone());
        self.workers.spawn(async move { service.reconcile(stop).await });
        let (service, stop) = (self.service.clone(), self.working.clone());
        self.workers.spawn(async move { service.scan(stop).await });
        self.take_over_keys(rotator.clone());
        let (rotator, service) = (rotator.clone(), self.service.clone());
        self.every(Duration::from_secs(1), move || {
            let (rotator, service) = (rotator.clone(), service.clone());
            async move {
                match rotator.tick().await {
                    Ok(true) => service.announce_bundle(),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "rotating the signing keys failed; trying again"),
                }
            }
        });
        let (store, keyring) = (self.store.clone(), self.keyring.clone());
        self.every(Duration::from_secs(1), move || {
            let (store, keyring) = (store.clone(), keyring.clone());
            async move {
                if !store.holds("checkpoints") {
                    return;
                }
                if let Err(error) = store.write_root(Some(keyring.as_ref())).await {
                    tracing::warn!(%error, "the journal's root could not be written; trying again");
                }
            }
        });
        let store = self.store.clone();
        self.every(Duration::from_secs(300), move || {
            let store = store.clone();
            async move {
                if !store.holds("housekeeping") {
                    return;
                }
                if let Err(error) = store.tidy().await {
                    tracing::warn!(%error, "expired claims could not be removed; trying again");
                }
            }
        });
    }

    /// Keys that another server made, activated or dropped come into use here when its record is read.
    fn take_over_keys(&self, rotator: Arc<Rotator>) {
        let (service, stop) = (self.service.clone(), self.working.clone());
        let mut changes = service.changes();
        self.workers.spawn(async move {
            loop {
                let changed = tokio::select! {
                    () = stop.cancelled() => return,
                    change = changes.recv() => matches!(change, Ok(Change::Authority | Change::Everything) | Err(RecvError::Lagged(_))),
                };
                if !changed {
                    continue;
                }
                match rotator.reload().await {
                    Ok(true) => service.announce_bundle(),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "the signing keys of another server could not be taken over"),
                }
            }
        });
    }

    /// The journal's ways out, each on its own.
    pub(crate) async fn forward(&self, config: &ServerConfig) -> Result<(), StartError> {
        let open = |c: &SinkConfig| match c.place.open(self.service.ports().clock.clone()) {
            Ok(sink) => Ok(Outlet { name: c.name.clone(), kind: c.kind, timeout: c.timeout, sink }),
            Err(source) => Err(StartError::Sink { name: c.name.clone(), source }),
        };
        let outlets = config.sinks.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        for forwarder in self.service.attach_sinks(outlets).await? {
            self.workers.spawn(forwarder.run(self.working.clone()));
        }
        Ok(())
    }

    /// What is older than it is kept. The rows go even when no more is let go: a server that ended did not get to them.
    pub(crate) fn let_go(&self, keep: Option<Duration>) {
        let (service, store) = (self.service.clone(), self.store.clone());
        self.every(LOOK_EVERY, move || {
            let (service, store) = (service.clone(), store.clone());
            async move {
                if !store.holds("housekeeping") {
                    return;
                }
                if let Some(keep) = keep
                    && let Err(error) = service.prune_journal(keep).await
                {
                    tracing::warn!(%error, "old records could not be let go; trying again");
                }
                if let Err(error) = store.sweep().await {
                    tracing::warn!(%error, "the rows of records that were let go could not be deleted; trying again");
                }
            }
        });
    }

    fn every<F: Future<Output = ()> + Send>(&self, pause: Duration, job: impl Fn() -> F + Send + 'static) {
        let (clock, stop) = (self.clock.clone(), self.working.clone());
        self.workers.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = clock.sleep(pause) => {}
                }
                job().await;
            }
        });
    }
}
