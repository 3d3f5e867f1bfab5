//! The identity cache: entries pushed by the server, the X.509-SVIDs held for them, and what open streams see.
//!
//! Decides what to fetch and when, what a caller with given selectors may be served at `now`, and which streams a change
//! concerns. Fetches, signs and sends nothing. `S` is the daemon's key material, cheap to clone.
//!
//! Two rules stand above the rest: nothing is served at or past its NotAfter, and an identity that an entry no longer
//! gives is gone with the update that says so.

mod expiring;
mod index;
mod near;
mod slot;

pub use expiring::{Expiring, JwtCache, JwtKey, Lookup};
pub use index::{EntryIndex, Selectors, StreamId, StreamIndex};
pub use slot::Limits;

use crate::rotation;
use proto_types::{Entry, EntryId, Timestamp};
use slot::{Agenda, Held, Slot};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What the server's watch says.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "updates are applied one by one and not kept")]
pub enum Update {
    /// All entries of this node; what is absent is deleted.
    Snapshot(Vec<Entry>),
    Put(Entry),
    Delete(EntryId),
}

/// Why an update was not applied (wholly: nothing of it was).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    #[error("the server sent {got} entries for this node, the limit is {limit}; raise it or split the node")]
    TooManyEntries { got: usize, limit: usize },
}

/// An SVID to get. Answer with [`IdentityCache::svid_arrived`] or [`IdentityCache::svid_failed`], once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub entry: Arc<Entry>,
    pub ticket: Ticket,
    /// A usable one is held: this can wait when others cannot.
    pub renewal: bool,
}

/// Names one [`Work`]; one whose entry changed meanwhile is answered in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// One identity a caller may use now.
#[derive(Clone, Debug)]
pub struct Identity<S> {
    pub entry: Arc<Entry>,
    pub svid: S,
    pub not_after: Timestamp,
}

/// What a caller sees.
#[derive(Clone, Debug)]
pub struct View<S> {
    /// Oldest entry first, then by id; of several with one hint only the first.
    pub identities: Vec<Identity<S>>,
    /// Entries that match and have no usable SVID yet. 0 and no identities: the caller has none and gets none.
    pub pending: usize,
    /// Two views with equal stamps say the same.
    pub stamp: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Stamp(Vec<(EntryId, u64)>);

pub struct IdentityCache<S> {
    limits: Limits,
    slots: HashMap<EntryId, Slot<S>>,
    index: EntryIndex,
    streams: StreamIndex,
    dirty: BTreeSet<StreamId>,
    agenda: Agenda,
    counter: u64,
}

impl<S: Clone> IdentityCache<S> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: HashMap::new(),
            index: EntryIndex::default(),
            streams: StreamIndex::default(),
            dirty: BTreeSet::new(),
            agenda: Agenda::default(),
            counter: 0,
        }
    }

    /// Takes in what the server said.
    pub fn apply(&mut self, update: Update, now: Timestamp) -> Result<(), CacheError> {
        match update {
            Update::Snapshot(entries) => {
                let keep: HashSet<EntryId> = entries.iter().map(|e| e.id.clone()).collect();
                self.fits(keep.len())?;
                let gone: Vec<EntryId> = self.slots.keys().filter(|id| !keep.contains(*id)).cloned().collect();
                gone.iter().for_each(|id| self.delete(id));
                entries.into_iter().for_each(|e| self.put(e, now));
            }
            Update::Put(entry) => {
                let new = usize::from(!self.slots.contains_key(&entry.id));
                self.fits(self.slots.len() + new)?;
                self.put(entry, now);
            }
            Update::Delete(id) => self.delete(&id),
        }
        self.admit_waiting(now);
        Ok(())
    }

    fn fits(&self, got: usize) -> Result<(), CacheError> {
        let limit = self.limits.entries;
        if got > limit { Err(CacheError::TooManyEntries { got, limit }) } else { Ok(()) }
    }

    fn tick(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn put(&mut self, entry: Entry, now: Timestamp) {
        let version = self.tick();
        let id = entry.id.clone();
        // It is for a store of SVIDs, and no workload's over a socket.
        if entry.store_svid {
            return self.delete(&id);
        }
        let Some(slot) = self.slots.get_mut(&id) else {
            let streams = self.streams.concerned(&entry.selectors);
            self.index.insert(&id, &entry.selectors);
            self.slots.insert(id.clone(), Slot::new(Arc::new(entry), version, streams.len()));
            self.dirty.extend(streams);
            self.agenda.wait(&id);
            return self.reconsider(&id, now);
        };
        if *slot.entry == entry {
            return;
        }
        let old = std::mem::replace(&mut slot.entry, Arc::new(entry));
        let entry = slot.entry.clone();
        slot.version = version;
        if old.spiffe_id != entry.spiffe_id {
            slot.svid = None;
            self.agenda.expires(&id, None);
        }
        let other_certificate = old.spiffe_id != entry.spiffe_id
            || old.dns_names != entry.dns_names
            || old.x509_svid_ttl != entry.x509_svid_ttl;
        if other_certificate && slot.is_admitted() {
            slot.ticket = None;
            slot.failures = 0;
            slot.due = Some(now);
            self.agenda.due(&id, Some(now));
        }
        if old.selectors != entry.selectors {
            self.dirty.extend(self.streams.concerned(&old.selectors));
            self.index.insert(&id, &entry.selectors);
        }
        let streams = self.streams.concerned(&entry.selectors);
        slot.wanted = streams.len();
        self.dirty.extend(streams);
        self.reconsider(&id, now);
    }

    fn delete(&mut self, id: &EntryId) {
        let Some(slot) = self.slots.remove(id) else { return };
        self.index.remove(id);
        self.agenda.forget(id, slot.is_admitted());
        self.dirty.extend(self.streams.concerned(&slot.entry.selectors));
    }

    /// Admits an entry that a stream wants or that there is room for (one that is not prefetched, for streams only); puts one that nobody wants any more among the idle.
    fn reconsider(&mut self, id: &EntryId, now: Timestamp) {
        let tick = self.tick();
        let Some(slot) = self.slots.get_mut(id) else { return };
        self.agenda.idle(id, None);
        if !slot.is_admitted() {
            if slot.wanted == 0 && slot.entry.disable_x509_svid_prefetch {
                return self.agenda.stay_out(id);
            }
            if slot.wanted == 0 && self.agenda.admitted() >= self.limits.prefetch {
                return self.agenda.wait(id);
            }
            slot.due = Some(now);
            self.agenda.admit(id, now);
        }
        if slot.wanted == 0 {
            self.agenda.idle(id, Some(tick));
        }
        self.evict();
    }

    /// Above the limit, drops what has been idle for longest. What streams want always stays: the limit is soft.
    fn evict(&mut self) {
        while self.agenda.admitted() > self.limits.prefetch {
            let Some(id) = self.agenda.longest_idle() else { return };
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.dismiss();
            }
            self.agenda.forget(&id, true);
            self.agenda.wait(&id);
        }
    }

    fn admit_waiting(&mut self, now: Timestamp) {
        while self.agenda.admitted() < self.limits.prefetch {
            let Some(id) = self.agenda.first_waiting() else { return };
            self.reconsider(&id, now);
        }
    }

    /// Drops what has expired and hands out at most `max` SVIDs to get, first ones before renewals of the same moment.
    pub fn due(&mut self, now: Timestamp, max: usize) -> Vec<Work> {
        self.expire(now);
        let mut work = Vec::new();
        while work.len() < max {
            let Some(id) = self.agenda.pop_due(now) else { break };
            let ticket = self.tick();
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.due = None;
            slot.ticket = Some(ticket);
            work.push(Work { entry: slot.entry.clone(), ticket: Ticket(ticket), renewal: slot.svid.is_some() });
        }
        work.sort_by_key(|w| w.renewal);
        work
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some(id) = self.agenda.pop_expired(now) {
            let version = self.tick();
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.svid = None;
            slot.version = version;
            let selectors = slot.entry.clone();
            self.dirty.extend(self.streams.concerned(&selectors.selectors));
        }
    }

    /// When [`IdentityCache::due`] next has something to do.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.agenda.wake_at()
    }

    /// Stores a fetched SVID. `false`: the entry changed or went meanwhile, or the SVID is already over; it must not be
    /// used. `jitter` in `[0, 1)`.
    pub fn svid_arrived(
        &mut self,
        id: &EntryId,
        ticket: Ticket,
        fetched: Fetched<S>,
        now: Timestamp,
        jitter: f64,
    ) -> bool {
        let version = self.tick();
        let Some(slot) = self.slots.get_mut(id).filter(|s| s.ticket == Some(ticket.0)) else { return false };
        if fetched.not_after <= now {
            self.svid_failed(id, ticket, now, jitter);
            return false;
        }
        // From now, not from a NotBefore that lies back (skewed clocks): else a short SVID would be due again at once.
        let renew_at = rotation::due(fetched.not_before.max(now), fetched.not_after, jitter);
        let renew_at = renew_at.max(now.plus(self.limits.retry_base));
        slot.ticket = None;
        slot.failures = 0;
        slot.version = version;
        slot.due = Some(renew_at);
        self.agenda.due(id, slot.due);
        self.agenda.expires(id, Some(fetched.not_after));
        slot.svid = Some(Held { svid: fetched.svid, not_after: fetched.not_after });
        self.dirty.extend(self.streams.concerned(&slot.entry.selectors));
        true
    }

    /// Tries again after a wait with full jitter; what is held stays until it expires.
    pub fn svid_failed(&mut self, id: &EntryId, ticket: Ticket, now: Timestamp, jitter: f64) {
        let Some(slot) = self.slots.get_mut(id).filter(|s| s.ticket == Some(ticket.0)) else { return };
        slot.ticket = None;
        slot.failures = slot.failures.saturating_add(1);
        let wait = rotation::backoff(slot.failures, self.limits.retry_base, self.limits.retry_cap, jitter);
        slot.due = Some(now.plus(wait));
        self.agenda.due(id, slot.due);
    }

    /// The server answers again: what waits after a failure is due now.
    pub fn reconnected(&mut self, now: Timestamp) {
        for (id, slot) in &mut self.slots {
            if slot.failures > 0 && slot.due.is_some_and(|at| at > now) {
                slot.due = Some(now);
                self.agenda.due(id, slot.due);
            }
        }
    }

    /// Entries whose selectors are all among `attested`: oldest first, then by id.
    pub fn matching(&self, attested: &Selectors) -> Vec<Arc<Entry>> {
        let slots = self.index.matching(attested).filter_map(|id| self.slots.get(id));
        let mut entries: Vec<_> = slots.map(|s| s.entry.clone()).collect();
        entries.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        entries
    }

    /// What a caller with these selectors may be served at `now`.
    pub fn view(&self, attested: &Selectors, now: Timestamp) -> View<S> {
        let mut view = View { identities: Vec::new(), pending: 0, stamp: Stamp::default() };
        let mut hints = HashSet::new();
        for entry in self.matching(attested) {
            if !entry.hint.is_empty() && !hints.insert(entry.hint.clone()) {
                continue;
            }
            let Some(slot) = self.slots.get(&entry.id) else { continue };
            match slot.svid.as_ref().filter(|h| h.not_after > now) {
                None => view.pending += 1,
                Some(held) => {
                    view.stamp.0.push((entry.id.clone(), slot.version));
                    view.identities.push(Identity { entry, svid: held.svid.clone(), not_after: held.not_after });
                }
            }
        }
        view
    }

    /// Opens a stream: its entries are fetched first, and it is named by [`IdentityCache::take_dirty`] when they change.
    pub fn subscribe(&mut self, selectors: Arc<Selectors>, now: Timestamp) -> StreamId {
        let id = StreamId(self.tick());
        self.each_wanted(&selectors, now, |wanted| wanted + 1);
        self.streams.insert(id, selectors);
        id
    }

    pub fn unsubscribe(&mut self, id: StreamId, now: Timestamp) {
        self.dirty.remove(&id);
        if let Some(selectors) = self.streams.remove(id) {
            self.each_wanted(&selectors, now, |wanted| wanted.saturating_sub(1));
        }
    }

    fn each_wanted(&mut self, selectors: &Selectors, now: Timestamp, change: impl Fn(usize) -> usize) {
        let ids: Vec<EntryId> = self.index.matching(selectors).cloned().collect();
        for id in ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.wanted = change(slot.wanted);
            }
            self.reconsider(&id, now);
        }
    }

    /// Streams whose view may have changed since the last call.
    pub fn take_dirty(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    pub fn selectors_of(&self, id: StreamId) -> Option<Arc<Selectors>> {
        self.streams.get(id).cloned()
    }

    pub fn get(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.slots.get(id).map(|s| &s.entry)
    }

    /// Entries known, SVIDs held, streams open.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.slots.len(), self.slots.values().filter(|s| s.svid.is_some()).count(), self.streams.len())
    }
}

/// An SVID as it came from the server.
#[derive(Clone, Debug)]
pub struct Fetched<S> {
    pub svid: S,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}
