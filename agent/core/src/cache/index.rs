//! Subset matching in both directions, at a cost proportional to the answer: which entries a set of selectors earns,
//! and which open streams an entry concerns.
//!
//! An entry is filed under its rarest selector; a set of selectors looks only at what is filed under its own.

use proto_types::{EntryId, Selector};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What one process was attested to have.
pub type Selectors = BTreeSet<Selector>;

/// An open stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Entries by their rarest selector.
#[derive(Debug, Default)]
pub struct EntryIndex {
    /// How many entries name a selector.
    uses: HashMap<Selector, usize>,
    filed: HashMap<Selector, HashMap<EntryId, Arc<[Selector]>>>,
    place: HashMap<EntryId, Selector>,
}

impl EntryIndex {
    /// Files `id`. An entry without selectors is filed nowhere: it would match every process.
    pub fn insert(&mut self, id: &EntryId, selectors: &[Selector]) {
        self.remove(id);
        for selector in selectors {
            *self.uses.entry(selector.clone()).or_insert(0) += 1;
        }
        let rarest = selectors.iter().min_by_key(|s| self.uses.get(*s).copied().unwrap_or(0));
        let Some(rarest) = rarest else { return };
        self.place.insert(id.clone(), rarest.clone());
        self.filed.entry(rarest.clone()).or_default().insert(id.clone(), selectors.into());
    }

    pub fn remove(&mut self, id: &EntryId) {
        let Some(place) = self.place.remove(id) else { return };
        let Some(here) = self.filed.get_mut(&place) else { return };
        let selectors = here.remove(id);
        if here.is_empty() {
            self.filed.remove(&place);
        }
        for selector in selectors.iter().flat_map(|s| s.iter()) {
            let left = self.uses.get(selector).map_or(0, |n| n.saturating_sub(1));
            if left == 0 {
                self.uses.remove(selector);
            } else {
                self.uses.insert(selector.clone(), left);
            }
        }
    }

    /// Entries whose selectors are a subset of `attested`, in no order.
    pub fn matching<'a>(&'a self, attested: &'a Selectors) -> impl Iterator<Item = &'a EntryId> {
        attested
            .iter()
            .filter_map(|s| self.filed.get(s))
            .flatten()
            .filter(|(_, wants)| wants.iter().all(|w| attested.contains(w)))
            .map(|(id, _)| id)
    }
}

/// Open streams by what their callers were attested to have.
#[derive(Debug, Default)]
pub struct StreamIndex {
    sets: HashMap<StreamId, Arc<Selectors>>,
    by_selector: HashMap<Selector, HashSet<StreamId>>,
}

impl StreamIndex {
    pub fn insert(&mut self, id: StreamId, selectors: Arc<Selectors>) {
        for selector in selectors.iter() {
            self.by_selector.entry(selector.clone()).or_default().insert(id);
        }
        self.sets.insert(id, selectors);
    }

    pub fn remove(&mut self, id: StreamId) -> Option<Arc<Selectors>> {
        let selectors = self.sets.remove(&id)?;
        for selector in selectors.iter() {
            let Some(streams) = self.by_selector.get_mut(selector) else { continue };
            streams.remove(&id);
            if streams.is_empty() {
                self.by_selector.remove(selector);
            }
        }
        Some(selectors)
    }

    pub fn get(&self, id: StreamId) -> Option<&Arc<Selectors>> {
        self.sets.get(&id)
    }

    /// Streams whose callers have all of `wanted`.
    pub fn concerned(&self, wanted: &[Selector]) -> Vec<StreamId> {
        let mut fewest: Option<&HashSet<StreamId>> = None;
        for selector in wanted {
            let Some(streams) = self.by_selector.get(selector) else { return Vec::new() };
            if fewest.is_none_or(|f| streams.len() < f.len()) {
                fewest = Some(streams);
            }
        }
        let has_all = |id: &&StreamId| self.sets.get(id).is_some_and(|s| wanted.iter().all(|w| s.contains(w)));
        fewest.into_iter().flatten().filter(has_all).copied().collect()
    }

    pub fn len(&self) -> usize {
        self.sets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}
