//! The identity cache of `agent-core`, shared: one short lock around pure decisions, wakers for the streams that a
//! change concerns, and the signal that there is an SVID to fetch.
//!
//! Decides nothing of its own. Nothing is awaited and no key is made while the lock is held.

use crate::{ports::Ports, x509::X509Svid};
use agent_core::cache::{
    CacheError, Expiring, Fetched, IdentityCache, JwtCache, JwtKey, Limits, Lookup, Selectors, StreamId, Update, View,
    Work,
};
use proto_types::{Entry, Selector, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// JWT-SVIDs kept for workloads that ask again.
const JWTS: usize = 1000;

/// A JWT-SVID as it came from the server.
#[derive(Debug)]
pub struct JwtSvid {
    pub token: proto_types::Secret<String>,
    /// The signing key's id, from the header.
    pub kid: Option<String>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

struct Inner {
    cache: IdentityCache<Arc<X509Svid>>,
    wakers: HashMap<StreamId, Arc<Notify>>,
}

/// Entries, their SVIDs, and who waits for them.
pub struct Identities {
    ports: Ports,
    inner: Mutex<Inner>,
    jwts: Mutex<JwtCache<Arc<JwtSvid>>>,
    work: Notify,
}

impl Identities {
    pub fn new(ports: Ports) -> Self {
        let inner = Inner { cache: IdentityCache::new(Limits::default()), wakers: HashMap::new() };
        Self { ports, inner: Mutex::new(inner), jwts: Mutex::new(Expiring::new(JWTS)), work: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock is a bug that has been reported; what the cache holds is still whole values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the cache, then wakes the streams that the change concerns and the fetcher.
    fn change<R>(&self, change: impl FnOnce(&mut IdentityCache<Arc<X509Svid>>, Timestamp) -> R) -> R {
        let mut inner = self.inner();
        let result = change(&mut inner.cache, self.ports.clock.now());
        for id in inner.cache.take_dirty() {
            if let Some(waker) = inner.wakers.get(&id) {
                waker.notify_one();
            }
        }
        drop(inner);
        self.work.notify_one();
        result
    }

    pub fn apply(&self, update: Update) -> Result<(), CacheError> {
        self.change(|cache, now| cache.apply(update, now))
    }

    /// At most `max` SVIDs to get now.
    pub fn due(&self, max: usize) -> Vec<Work> {
        let mut inner = self.inner();
        let work = inner.cache.due(self.ports.clock.now(), max);
        // Only expiries are reported here; the work itself wakes nobody, or the fetcher would wake itself for ever.
        for id in inner.cache.take_dirty() {
            if let Some(waker) = inner.wakers.get(&id) {
                waker.notify_one();
            }
        }
        work
    }

    pub fn wake_at(&self) -> Option<Timestamp> {
        self.inner().cache.wake_at()
    }

    /// Completes when there may be something to fetch.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// What was fetched. `false`: the entry changed meanwhile.
    pub fn arrived(&self, work: &Work, svid: X509Svid) -> bool {
        let jitter = self.ports.jitter();
        let (not_before, not_after) = (svid.not_before, svid.not_after);
        let fetched = Fetched { svid: Arc::new(svid), not_before, not_after };
        self.change(|cache, now| cache.svid_arrived(&work.entry.id, work.ticket, fetched, now, jitter))
    }

    pub fn failed(&self, work: &Work) {
        let jitter = self.ports.jitter();
        self.change(|cache, now| cache.svid_failed(&work.entry.id, work.ticket, now, jitter));
    }

    /// The server answers again.
    pub fn reconnected(&self) {
        self.change(|cache, now| cache.reconnected(now));
    }

    pub fn view(&self, selectors: &Selectors) -> View<Arc<X509Svid>> {
        let now = self.ports.clock.now();
        self.inner().cache.view(selectors, now)
    }

    pub fn matching(&self, selectors: &Selectors) -> Vec<Arc<Entry>> {
        self.inner().cache.matching(selectors)
    }

    /// Entries that want one selector more than these, with that one.
    pub fn near(&self, selectors: &Selectors) -> Vec<(Arc<Entry>, Selector)> {
        self.inner().cache.near(selectors)
    }

    /// Entries known, SVIDs held, streams open.
    pub fn sizes(&self) -> (usize, usize, usize) {
        self.inner().cache.sizes()
    }

    /// Opens a stream for a caller with these selectors.
    pub fn subscribe(self: &Arc<Self>, selectors: Arc<Selectors>) -> Subscription {
        let waker = Arc::new(Notify::new());
        let mut inner = self.inner();
        let id = inner.cache.subscribe(selectors.clone(), self.ports.clock.now());
        inner.wakers.insert(id, waker.clone());
        drop(inner);
        // What it wants may have been waiting for room.
        self.work.notify_one();
        Subscription { identities: self.clone(), id, waker, selectors }
    }

    /// Wakes every stream: something all of them show has changed.
    pub fn wake_all(&self) {
        self.inner().wakers.values().for_each(|waker| waker.notify_one());
    }

    fn jwts(&self) -> MutexGuard<'_, JwtCache<Arc<JwtSvid>>> {
        self.jwts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn jwt(&self, key: &JwtKey) -> Lookup<Arc<JwtSvid>> {
        let now = self.ports.clock.now();
        self.jwts().get(key, now)
    }

    pub fn keep_jwt(&self, key: JwtKey, jwt: &Arc<JwtSvid>) {
        let jitter = self.ports.jitter();
        self.jwts().insert(key, jwt.clone(), jwt.issued_at, jwt.expires_at, jitter);
    }

    /// Drops the JWT-SVIDs that are not to be kept.
    pub fn retain_jwts(&self, mut keep: impl FnMut(&JwtSvid) -> bool) {
        self.jwts().retain(|_, jwt| keep(jwt));
    }
}

/// An open stream's place in the cache; closed when it is dropped.
pub struct Subscription {
    identities: Arc<Identities>,
    id: StreamId,
    waker: Arc<Notify>,
    selectors: Arc<Selectors>,
}

impl Subscription {
    /// Completes when the caller's view may have changed since the last time.
    pub async fn changed(&self) {
        self.waker.notified().await;
    }
    pub fn selectors(&self) -> &Arc<Selectors> {
        &self.selectors
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let now = self.identities.ports.clock.now();
        let mut inner = self.identities.inner();
        inner.wakers.remove(&self.id);
        inner.cache.unsubscribe(self.id, now);
    }
}
