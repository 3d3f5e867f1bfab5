//! Which entries a process nearly earns: for people who ask why it does not. Looks at every entry, so it is not for the
//! path that serves.

use super::{IdentityCache, Selectors};
use proto_types::{Entry, Selector};
use std::sync::Arc;

impl<S> IdentityCache<S> {
    /// Entries that want exactly one selector more than was attested, with that one; by id.
    pub fn near(&self, attested: &Selectors) -> Vec<(Arc<Entry>, Selector)> {
        let lacking = |entry: &Arc<Entry>| {
            let mut missing = entry.selectors.iter().filter(|s| !attested.contains(*s));
            let first = missing.next()?.clone();
            missing.next().is_none().then(|| (entry.clone(), first))
        };
        let mut near: Vec<_> = self.slots.values().filter_map(|slot| lacking(&slot.entry)).collect();
        near.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        near
    }
}
