//! A bounded cache of short-lived things that are renewed only when someone asks: JWT-SVIDs by (SPIFFE ID, audiences),
//! task SVIDs by task.
//!
//! Decides when a held value may be served as it is, when it should be replaced first, and when it must not be served.

use crate::rotation;
use proto_types::{SpiffeId, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Identity and sorted, duplicate-free audiences of one JWT-SVID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JwtKey {
    spiffe_id: SpiffeId,
    audiences: Vec<String>,
}

impl JwtKey {
    /// The order and repetition of audiences make no difference.
    pub fn new(spiffe_id: SpiffeId, mut audiences: Vec<String>) -> Self {
        audiences.sort();
        audiences.dedup();
        Self { spiffe_id, audiences }
    }
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }
}

/// What the cache answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<V> {
    /// Before its half-life.
    Fresh(V),
    /// Past its half-life, still valid: get a new one, serve this one if that fails.
    Aging(V),
    Missing,
}

struct Held<V> {
    value: V,
    renew_at: Timestamp,
    not_after: Timestamp,
    used: u64,
}

/// At most `capacity` values; the one unused for longest makes room.
pub struct Expiring<K, V> {
    capacity: usize,
    clock: u64,
    held: HashMap<K, Held<V>>,
    by_use: BTreeMap<u64, K>,
}

impl<K: Eq + Hash + Clone, V: Clone> Expiring<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), clock: 0, held: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// What is held for `key` at `now`. A value at or past its end is dropped here and never served.
    pub fn get(&mut self, key: &K, now: Timestamp) -> Lookup<V> {
        let Some(held) = self.held.get_mut(key) else { return Lookup::Missing };
        if now >= held.not_after {
            self.remove(key);
            return Lookup::Missing;
        }
        self.clock += 1;
        self.by_use.remove(&held.used);
        held.used = self.clock;
        self.by_use.insert(self.clock, key.clone());
        let value = held.value.clone();
        if now < held.renew_at { Lookup::Fresh(value) } else { Lookup::Aging(value) }
    }

    /// Holds `value` until `not_after`. `jitter` in `[0, 1)` moves its renewal, see [`rotation::due`].
    pub fn insert(&mut self, key: K, value: V, issued_at: Timestamp, not_after: Timestamp, jitter: f64) {
        self.remove(&key);
        while self.held.len() >= self.capacity {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.held.remove(&oldest);
        }
        self.clock += 1;
        let renew_at = rotation::due(issued_at, not_after, jitter);
        self.by_use.insert(self.clock, key.clone());
        self.held.insert(key, Held { value, renew_at, not_after, used: self.clock });
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let held = self.held.remove(key)?;
        self.by_use.remove(&held.used);
        Some(held.value)
    }

    /// Drops every value whose key is not to be kept: an entry was deleted, a key revoked, a task ended.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let by_use = &mut self.by_use;
        self.held.retain(|key, held| {
            let kept = keep(key, &held.value);
            if !kept {
                by_use.remove(&held.used);
            }
            kept
        });
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// JWT-SVIDs as the Workload API caches them.
pub type JwtCache<J> = Expiring<JwtKey, J>;
