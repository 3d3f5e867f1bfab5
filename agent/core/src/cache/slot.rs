//! One entry's place in the cache, and the agenda: what is due, what expires, what idles, what waits for room.

use proto_types::{Entry, EntryId, Timestamp};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// Sizes and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most entries this node may have; an update beyond it is refused.
    pub entries: usize,
    /// SVIDs fetched before anybody asks. Soft: what open streams want is always held.
    pub prefetch: usize,
    /// First and longest wait after a failed fetch.
    pub retry_base: Duration,
    pub retry_cap: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            prefetch: 1000,
            retry_base: Duration::from_millis(500),
            retry_cap: Duration::from_secs(30),
        }
    }
}

pub(super) struct Held<S> {
    pub svid: S,
    pub not_after: Timestamp,
}

pub(super) struct Slot<S> {
    pub entry: Arc<Entry>,
    pub svid: Option<Held<S>>,
    /// When to fetch; the agenda has the same.
    pub due: Option<Timestamp>,
    /// A fetch is under way.
    pub ticket: Option<u64>,
    pub failures: u32,
    /// Grows with each change a caller could see.
    pub version: u64,
    /// Open streams that match.
    pub wanted: usize,
}

impl<S> Slot<S> {
    pub fn new(entry: Arc<Entry>, version: u64, wanted: usize) -> Self {
        Self { entry, svid: None, due: None, ticket: None, failures: 0, version, wanted }
    }
    /// It holds an SVID, gets one, or is about to.
    pub fn is_admitted(&self) -> bool {
        self.svid.is_some() || self.due.is_some() || self.ticket.is_some()
    }
    pub fn dismiss(&mut self) {
        (self.svid, self.due, self.ticket, self.failures) = (None, None, None, 0);
    }
}

/// Ordered sets of entries; each entry is at most once in each.
#[derive(Default)]
pub(super) struct Agenda {
    due: Timeline<Timestamp>,
    expiries: Timeline<Timestamp>,
    idle: Timeline<u64>,
    waiting: BTreeSet<EntryId>,
    admitted: usize,
}

impl Agenda {
    pub fn admit(&mut self, id: &EntryId, now: Timestamp) {
        self.waiting.remove(id);
        self.admitted += 1;
        self.due.set(id, Some(now));
    }
    pub fn wait(&mut self, id: &EntryId) {
        self.waiting.insert(id.clone());
    }
    /// It neither has a place nor waits for one.
    pub fn stay_out(&mut self, id: &EntryId) {
        self.waiting.remove(id);
    }
    pub fn forget(&mut self, id: &EntryId, was_admitted: bool) {
        self.waiting.remove(id);
        self.due.set(id, None);
        self.expiries.set(id, None);
        self.idle.set(id, None);
        self.admitted -= usize::from(was_admitted && self.admitted > 0);
    }
    pub fn due(&mut self, id: &EntryId, at: Option<Timestamp>) {
        self.due.set(id, at);
    }
    pub fn expires(&mut self, id: &EntryId, at: Option<Timestamp>) {
        self.expiries.set(id, at);
    }
    pub fn idle(&mut self, id: &EntryId, since: Option<u64>) {
        self.idle.set(id, since);
    }
    pub fn admitted(&self) -> usize {
        self.admitted
    }
    pub fn longest_idle(&self) -> Option<EntryId> {
        self.idle.first().map(|(_, id)| id.clone())
    }
    pub fn first_waiting(&self) -> Option<EntryId> {
        self.waiting.first().cloned()
    }
    pub fn pop_due(&mut self, now: Timestamp) -> Option<EntryId> {
        self.due.pop_until(now)
    }
    pub fn pop_expired(&mut self, now: Timestamp) -> Option<EntryId> {
        self.expiries.pop_until(now)
    }
    pub fn wake_at(&self) -> Option<Timestamp> {
        let next = |line: &Timeline<Timestamp>| line.first().map(|(at, _)| *at);
        [next(&self.due), next(&self.expiries)].into_iter().flatten().min()
    }
}

/// Entries in order of a number each has at most one of.
struct Timeline<T> {
    order: BTreeSet<(T, EntryId)>,
    place: HashMap<EntryId, T>,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), place: HashMap::new() }
    }
}

impl<T: Ord + Copy> Timeline<T> {
    fn set(&mut self, id: &EntryId, at: Option<T>) {
        if let Some(old) = self.place.remove(id) {
            self.order.remove(&(old, id.clone()));
        }
        if let Some(at) = at {
            self.place.insert(id.clone(), at);
            self.order.insert((at, id.clone()));
        }
    }
    fn first(&self) -> Option<&(T, EntryId)> {
        self.order.first()
    }
    fn pop_until(&mut self, now: T) -> Option<EntryId> {
        let id = self.order.first().filter(|(at, _)| *at <= now)?.1.clone();
        self.set(&id, None);
        Some(id)
    }
}
