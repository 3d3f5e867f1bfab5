//! The reconciler: ends in its target what is over here, and never gives up.
//!
//! Revocations run side by side, at most [`PER_TARGET`] in one target, so that one that is down holds up nobody else.
//! What fails is due again later; what succeeds is a record. Scans find names that no lease accounts for.

use crate::{Service, ServiceError, tasks::Looked};
use proto_types::{
    CredentialName, Handle, Lease, LeaseId, LeaseState, Record, Revocability, RoleName, TaskId, Timestamp,
};
use serde_json::json;
use server_core::{
    clock::Doubt,
    lease::{self, Due},
    ports::{Commit, RevokeError, Revoked},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// Revocations at once in one target.
const PER_TARGET: usize = 8;
/// What is to be ended is divided into so many parts among the servers that are up.
const PARTS: u32 = 16;
/// Leases looked at in one round.
const ROUND: usize = 256;
/// The longest a target may take to revoke once.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at a clock that leapt ahead.
const IN_DOUBT: Duration = Duration::from_secs(1);
/// Between two scans of a target; an orphan must be seen in two.
const SCAN_EVERY: Duration = Duration::from_secs(60);
/// Pages read in one scan of a target, and orphans looked at: a hostile target names as many as it likes.
const MAX_PAGES: usize = 1000;
const MAX_ORPHANS: usize = 200;

#[derive(Default)]
pub(crate) struct Workers {
    wake: Notify,
    /// Leases somebody works on right now: being issued, or being revoked.
    busy: Mutex<HashSet<LeaseId>>,
    lanes: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Holding it keeps the reconciler away from the lease.
pub(crate) struct Busy {
    service: Service,
    id: LeaseId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.service.inner.leases.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.service.inner.leases.wake.notify_one();
    }
}

impl Workers {
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
    fn lane(&self, target: &str) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(target.into()).or_insert_with(|| Arc::new(Semaphore::new(PER_TARGET))).clone()
    }
}

impl Service {
    /// Takes the lease for oneself; `None` when somebody works on it.
    pub(crate) fn take_lease(&self, id: LeaseId) -> Option<Busy> {
        let taken = self.inner.leases.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        taken.then(|| Busy { service: self.clone(), id })
    }

    /// Ends what is due until `stop`.
    pub async fn reconcile(&self, stop: CancellationToken) {
        // What another server is issuing is not abandoned: it is when its grace is over.
        if !self.settings().shared_store {
            self.recover().await;
        }
        // Asked for before there is anything to do, so that it is divided by then.
        self.inner.ports.duties.holds_part("leases", 0, PARTS);
        let (mut pruned, mut looked) = (0, Looked::default());
        loop {
            // By a clock that leapt everything would be over: nothing is, until it is right again.
            if let Some(Doubt::Ahead { .. }) = self.clock_in_doubt() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.inner.ports.clock.sleep(IN_DOUBT) => continue,
                }
            }
            self.end_overdue().await;
            self.end_adrift(&mut looked).await;
            let now = self.now();
            if now.as_secs() != pruned {
                pruned = now.as_secs();
                self.prune_entries().await;
            }
            let (due, next) = self.due_now(now);
            for lease in due {
                if let Some(busy) = self.take_lease(lease.id) {
                    let service = self.clone();
                    tokio::spawn(async move { service.work(lease, busy).await });
                }
            }
            let pause = next.map_or(Duration::from_millis(250), |at| at.since(now)).min(Duration::from_millis(250));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.leases.wake.notified() => {}
                () = self.inner.ports.clock.sleep(pause.max(Duration::from_millis(5))) => {}
            }
        }
    }

    /// What is due and nobody works on, of each target no more than a few: one that hangs holds up nobody else.
    fn due_now(&self, now: Timestamp) -> (Vec<Arc<Lease>>, Option<Timestamp>) {
        let busy = self.inner.leases.busy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut of_target: HashMap<String, usize> = HashMap::new();
        self.read(|s| {
            // What is being issued takes nothing from what is to be ended.
            let ending = |l: &&Arc<Lease>| l.state != LeaseState::Intended;
            for lease in busy.iter().filter_map(|id| s.leases.get(id)).filter(ending) {
                *of_target.entry(lease.role.target().into()).or_default() += 1;
            }
            s.due_leases(now, ROUND, |lease| {
                if busy.contains(&lease.id) || !self.ends(lease.id) {
                    return false;
                }
                let n = of_target.entry(lease.role.target().into()).or_default();
                *n += 1;
                *n <= 2 * PER_TARGET
            })
        })
    }

    /// Whether it is this server that ends a lease when it is over.
    fn ends(&self, id: LeaseId) -> bool {
        // The last byte of a version 7 UUID is random.
        let part = u32::from(id.uuid().as_bytes()[15]) % PARTS;
        self.inner.ports.duties.holds_part("leases", part, PARTS)
    }

    /// After a start: who held the secret of an `intended` lease died with it. What is being issued by now is somebody's.
    async fn recover(&self) {
        let now = self.now();
        let leases: Vec<_> = self.read(|s| s.leases.values().cloned().collect());
        for held in leases {
            let Some(moved) = lease::recover(&held, now) else { continue };
            let Some(_mine) = self.take_lease(held.id) else { continue };
            if let Err(error) = self.commit_and_follow(moved.commit()).await {
                tracing::error!(lease = %held.id, %error, "a lease could not be recovered yet; it is when its grace is over");
            }
        }
    }

    async fn work(&self, held: Arc<Lease>, _busy: Busy) {
        let now = self.now();
        // The state may have moved between the look and the taking.
        let found = self.read(|s| s.leases.get(&held.id).map(|l| (l.clone(), s.outlives_its_task(l))));
        let Some((held, orphaned)) = found else { return };
        let outcome = match lease::due(&held, now) {
            _ if orphaned => self.start_revoking(&held, "task_over", now).await,
            Some(Due::Revoke) => {
                let why = if held.state == LeaseState::Intended { "abandoned" } else { "expired" };
                self.start_revoking(&held, why, now).await
            }
            Some(Due::Try) => self.try_revoke(&held).await,
            Some(Due::Expire) => match lease::expire(&held, now) {
                Ok(moved) => self.commit_and_follow(moved.commit()).await.map(drop),
                Err(_) => Ok(()),
            },
            None => Ok(()),
        };
        if let Err(error) = outcome {
            // The store is in doubt: what was done in the target is done again, which is harmless.
            tracing::warn!(lease = %held.id, %error, "a lease could not be moved; it will be tried again");
            self.inner.ports.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    async fn start_revoking(&self, held: &Lease, why: &str, now: Timestamp) -> Result<(), ServiceError> {
        match lease::revoke(held, why, now) {
            Ok(moved) => self.commit_and_follow(moved.commit()).await.map(drop),
            Err(_) => Ok(()),
        }
    }

    async fn try_revoke(&self, held: &Lease) -> Result<(), ServiceError> {
        let answer = match self.target(held.role.target()) {
            None => Err(RevokeError::NeedsHuman {
                why: format!("target `{}` is not declared or not usable", held.role.target()),
            }),
            Some(target) => {
                let lane = self.inner.leases.lane(held.role.target());
                // The semaphore is never closed.
                let _lane = lane.acquire().await;
                tokio::select! {
                    answer = target.revoke(held) => answer,
                    () = self.inner.ports.clock.sleep(REVOKE_TIMEOUT) =>
                        Err(RevokeError::Again { why: "no answer within 30s".into() }),
                }
            }
        };
        let now = self.now();
        let moved = match answer {
            Ok(Revoked::Gone) => lease::gone(held, now),
            Ok(Revoked::Lingers { until }) => lease::lingers(held, until, now),
            Err(error) => {
                self.note_failure(held, &error, now);
                return Ok(());
            }
        };
        match moved {
            Ok(moved) => self.commit_and_follow(moved.commit()).await.map(drop),
            Err(_) => Ok(()),
        }
    }

    fn note_failure(&self, held: &Lease, error: &RevokeError, now: Timestamp) {
        let mut random = [0; 8];
        self.inner.ports.entropy.fill(&mut random);
        tracing::warn!(lease = %held.id, target = held.role.target(), tries = held.tries, %error, "revoking failed");
        if let Ok(retry) = lease::again(held, &error.to_string(), u64::from_be_bytes(random), now) {
            let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
            // Only while nobody moved it on.
            if state.leases.get(&held.id).is_some_and(|l| l.state == LeaseState::Revoking) {
                state.put_lease(Arc::new(retry));
            }
        }
    }

    /// Looks for names in targets that no lease accounts for, until `stop`.
    pub async fn scan(&self, stop: CancellationToken) {
        let mut suspects: HashSet<(String, String)> = HashSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.ports.clock.sleep(SCAN_EVERY) => {}
            }
            self.inner.refusals.retain_recent();
            let targets: Vec<_> = self.read(|s| {
                s.targets.iter().filter_map(|(n, t)| Some((n.clone(), t.target.as_ref().ok()?.clone()))).collect()
            });
            let mut seen = HashSet::new();
            for (name, target) in
                targets.into_iter().filter(|(name, _)| self.inner.ports.duties.holds(&format!("scan {name}")))
            {
                if let Err(error) = self.scan_target(&name, target.as_ref(), &suspects, &mut seen).await {
                    tracing::warn!(target = name, %error, "a target could not be scanned");
                }
            }
            suspects = seen;
        }
    }

    /// One pass over one target. Public for the operator's `scan now` and for tests that own the clock.
    async fn scan_target(
        &self,
        name: &str,
        target: &dyn server_core::ports::Target,
        suspects: &HashSet<(String, String)>,
        seen: &mut HashSet<(String, String)>,
    ) -> Result<(), ServiceError> {
        let unavailable = |e: RevokeError| ServiceError::TargetUnavailable { target: name.into(), why: e.to_string() };
        let prefix = CredentialName::prefix(&self.inner.meta.store_id);
        let mut after = None;
        let mut orphans = 0;
        for _ in 0..MAX_PAGES {
            let page = tokio::select! {
                page = target.scan(&prefix, after.clone()) => page.map_err(unavailable)?,
                () = self.inner.ports.clock.sleep(REVOKE_TIMEOUT) =>
                    return Err(unavailable(RevokeError::Again { why: "no answer within 30s".into() })),
            };
            let Some(last) = page.last().cloned() else { return Ok(()) };
            // What a target says is not believed: names that do not ascend would be read for ever.
            if after.as_ref().is_some_and(|a| *a >= last) {
                return Err(unavailable(RevokeError::NeedsHuman { why: "its list of names does not ascend".into() }));
            }
            for found in page {
                let Some(found) = CredentialName::recognise(&self.inner.meta.store_id, &found) else { continue };
                match self.inner.ports.archive.lease_named(name, &found).await? {
                    Some(row) if row.state.is_final() => self.revive(&row).await?,
                    Some(_) => {}
                    None if self.is_anothers(name, &found).await? => {}
                    None => {
                        let key = (name.to_string(), found.to_string());
                        orphans += 1;
                        if orphans > MAX_ORPHANS {
                            continue;
                        }
                        if suspects.contains(&key) {
                            self.end_orphan(name, target, found).await?;
                        } else {
                            seen.insert(key);
                        }
                    }
                }
            }
            after = Some(last);
        }
        Ok(())
    }

    /// Whether a lease of another target has the name: two databases of one server see each other's roles.
    async fn is_anothers(&self, name: &str, found: &CredentialName) -> Result<bool, ServiceError> {
        let others: Vec<String> = self.read(|s| s.targets.keys().filter(|n| *n != name).cloned().collect());
        for other in others {
            if self.inner.ports.archive.lease_named(&other, found).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A late creation landed after the lease was over: it is revoked again.
    async fn revive(&self, row: &Lease) -> Result<(), ServiceError> {
        match lease::found_alive(row, self.now()) {
            Ok(moved) => self.commit_and_follow(moved.commit()).await.map(drop),
            Err(_) => Ok(()),
        }
    }

    /// A name of ours that no row knows, seen in two scans: recorded, then ended.
    async fn end_orphan(
        &self,
        name: &str,
        target: &dyn server_core::ports::Target,
        found: CredentialName,
    ) -> Result<(), ServiceError> {
        let now = self.now();
        let record = Record::new(now, "lease.orphan_found").target(name).detail(json!({ "name": found }));
        self.commit(Commit::of(record)).await?;
        let uuid = self.inner.ports.entropy.uuid_v7(now);
        let kind = self.read(|s| s.targets.get(name).map(|t| t.doc.kind.clone())).unwrap_or_default();
        let stand_in = Lease {
            id: LeaseId::new(uuid),
            task_id: TaskId::new(uuid),
            workload: proto_types::id::parse_spiffe_id(&self.inner.settings.server_id())?,
            role: RoleName::new(name, "unknown")?,
            kind,
            name: found,
            state: LeaseState::Revoking,
            revocability: Revocability::Instant,
            issued_at: now,
            expires_at: now,
            revoked_at: None,
            handle: Handle::default(),
            due_at: now,
            tries: 0,
            last_error: None,
            attempt: None,
        };
        if let Err(error) = target.revoke(&stand_in).await {
            tracing::warn!(target = name, %error, "an orphan could not be ended; the next scan finds it again");
        }
        Ok(())
    }
}
