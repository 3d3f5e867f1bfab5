//! Which identities a node earns: an index over registration entries, changed one entry at a time.
//!
//! An agent is entitled to an entry when a chain of parents leads from the entry to the agent itself or to a node alias
//! (an entry whose parent is `/spire/server`) whose selectors are a subset of what was attested of the node. The cost
//! of a change or a question is proportional to the entries it touches, never to how many there are. Does not decide
//! which *process* matches an entry: the agent does, with what the kernel told it.

use proto_types::{Entry, EntryId, Node, Selector, SpiffeId};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Longest chain of parents that is followed.
const MAX_DEPTH: usize = 16;

#[derive(Default)]
pub struct EntryIndex {
    by_id: HashMap<EntryId, Arc<Entry>>,
    by_parent: HashMap<SpiffeId, BTreeSet<EntryId>>,
    by_identity: HashMap<SpiffeId, BTreeSet<EntryId>>,
}

impl EntryIndex {
    /// Puts in a whole new value; answers the one it replaced.
    pub fn put(&mut self, entry: Entry) -> Option<Arc<Entry>> {
        let before = self.remove(&entry.id);
        self.by_parent.entry(entry.parent_id.clone()).or_default().insert(entry.id.clone());
        self.by_identity.entry(entry.spiffe_id.clone()).or_default().insert(entry.id.clone());
        self.by_id.insert(entry.id.clone(), Arc::new(entry));
        before
    }

    pub fn remove(&mut self, id: &EntryId) -> Option<Arc<Entry>> {
        let old = self.by_id.remove(id)?;
        for (map, key) in [(&mut self.by_parent, &old.parent_id), (&mut self.by_identity, &old.spiffe_id)] {
            if let Some(set) = map.get_mut(key) {
                set.remove(id);
                if set.is_empty() {
                    map.remove(key);
                }
            }
        }
        Some(old)
    }

    pub fn get(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.by_id.get(id)
    }

    /// Whether any entry names this identity as its parent.
    pub fn has_children(&self, id: &SpiffeId) -> bool {
        self.by_parent.contains_key(id)
    }

    /// Whether an entry gives this identity the right to administer.
    pub fn is_admin(&self, id: &SpiffeId) -> bool {
        self.of(id).any(|e| e.admin)
    }

    /// Whether an entry says that this identity is a server of its own, below this one.
    pub fn is_downstream(&self, id: &SpiffeId) -> bool {
        self.of(id).any(|e| e.downstream)
    }

    /// Whether any entry gives this identity (still).
    pub fn is_registered(&self, id: &SpiffeId) -> bool {
        self.of(id).next().is_some()
    }

    /// The entries that give this identity.
    fn of(&self, id: &SpiffeId) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_identity.get(id).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    /// Whether the entry would stand below itself: no chain from it ends at an agent.
    pub fn loops(&self, entry: &Entry) -> bool {
        let mut seen = HashSet::new();
        let mut up = vec![&entry.parent_id];
        while let Some(id) = up.pop() {
            if id == &entry.spiffe_id {
                return true;
            }
            if seen.insert(id) {
                up.extend(self.of(id).filter(|e| e.id != entry.id).map(|e| &e.parent_id));
            }
        }
        false
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_id.values()
    }

    /// An entry that says the same (SPIFFE ID, parent, selectors) under any id.
    pub fn similar(&self, entry: &Entry) -> Option<&Arc<Entry>> {
        self.of(&entry.spiffe_id).find(|e| e.similar_to(entry))
    }

    /// Everything the node is entitled to, in the order of ids.
    pub fn earned(&self, node: &Node) -> Vec<Arc<Entry>> {
        let mut seen: HashSet<&SpiffeId> = HashSet::new();
        let mut out: BTreeSet<&EntryId> = BTreeSet::new();
        let mut front: Vec<&SpiffeId> = vec![&node.id];
        front.extend(self.aliases_of(node).map(|e| &e.spiffe_id));
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for parent in front.drain(..).filter(|p| seen.insert(*p)).collect::<Vec<_>>() {
                for id in self.by_parent.get(parent).into_iter().flatten() {
                    if out.insert(id)
                        && let Some(entry) = self.by_id.get(id)
                    {
                        next.push(&entry.spiffe_id);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            front = next;
        }
        out.into_iter().filter_map(|id| self.by_id.get(id).cloned()).collect()
    }

    /// The entry, if this node is entitled to it. Walks up from the entry: cheap however many entries there are.
    pub fn entitled(&self, node: &Node, id: &EntryId) -> Option<&Arc<Entry>> {
        let entry = self.by_id.get(id)?;
        // A name of a node is not an identity that an agent may have signed.
        if is_for_nodes(entry) {
            return None;
        }
        self.leads_to(node, &entry.parent_id, MAX_DEPTH).then_some(entry)
    }

    fn leads_to(&self, node: &Node, parent: &SpiffeId, depth: usize) -> bool {
        if parent == &node.id {
            return true;
        }
        depth > 0
            && self.of(parent).any(|e| {
                if is_alias(e) {
                    is_subset(&e.selectors, &node.selectors)
                } else {
                    self.leads_to(node, &e.parent_id, depth - 1)
                }
            })
    }

    fn aliases_of<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Arc<Entry>> {
        let server = SpiffeId::new(format!("spiffe://{}/spire/server", node.id.trust_domain())).ok();
        server
            .and_then(|id| self.by_parent.get(&id))
            .into_iter()
            .flatten()
            .filter_map(|id| self.by_id.get(id))
            .filter(|e| is_subset(&e.selectors, &node.selectors))
    }
}

/// Whether the entry is a node alias: its selectors match nodes, not processes.
pub fn is_alias(entry: &Entry) -> bool {
    entry.parent_id.path() == "/spire/server"
}

/// Whether the entry names nodes and no process: an alias, or a second name given with a join token.
pub fn is_for_nodes(entry: &Entry) -> bool {
    is_alias(entry) || entry.selectors.iter().any(|s| s.kind() == "spiffe_id")
}

/// Whether everything an entry asks for was attested.
pub fn is_subset(wanted: &[Selector], attested: &[Selector]) -> bool {
    wanted.iter().all(|s| attested.contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_types::Timestamp;

    fn id(path: &str) -> SpiffeId {
        SpiffeId::new(format!("spiffe://example.org{path}")).unwrap()
    }

    fn entry(name: &str, parent: &str, selector: &str) -> Entry {
        Entry {
            id: EntryId::new(name).unwrap(),
            spiffe_id: id(&format!("/{name}")),
            parent_id: id(parent),
            selectors: vec![Selector::parse(selector).unwrap()],
            x509_svid_ttl: 0,
            jwt_svid_ttl: 0,
            federates_with: vec![],
            dns_names: vec![],
            hint: String::new(),
            admin: false,
            downstream: false,
            store_svid: false,
            expires_at: 0,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
            revision: 1,
            created_at: Timestamp::default(),
        }
    }

    fn node(path: &str, selectors: &[&str]) -> Node {
        Node {
            id: id(path),
            attestation_type: "join_token".into(),
            selectors: selectors.iter().map(|s| Selector::parse(s).unwrap()).collect(),
            serial: "01".into(),
            next_serial: None,
            expires_at: Timestamp::from_secs(1),
            banned: false,
            can_reattest: false,
            attested_at: Timestamp::default(),
            version: String::new(),
        }
    }

    #[test]
    fn a_node_earns_its_own_entries_and_those_below_its_aliases_and_nothing_else() {
        let mut index = EntryIndex::default();
        index.put(entry("web", "/spire/agent/a", "unix:uid:1"));
        index.put(entry("gpu", "/spire/server", "gpu:yes"));
        index.put(entry("trainer", "/gpu", "unix:uid:2"));
        index.put(entry("other", "/spire/agent/b", "unix:uid:1"));
        let names = |n: &Node| index.earned(n).iter().map(|e| e.id.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&node("/spire/agent/a", &["gpu:yes"])), ["trainer", "web"]);
        assert_eq!(names(&node("/spire/agent/a", &["gpu:no"])), ["web"]);
        let plain = node("/spire/agent/a", &["gpu:no"]);
        assert!(index.entitled(&plain, &EntryId::new("trainer").unwrap()).is_none());
        assert!(index.entitled(&plain, &EntryId::new("other").unwrap()).is_none());
        assert!(index.entitled(&plain, &EntryId::new("web").unwrap()).is_some());
        let gpu = node("/spire/agent/a", &["gpu:yes"]);
        assert!(index.entitled(&gpu, &EntryId::new("trainer").unwrap()).is_some());
        assert!(index.entitled(&gpu, &EntryId::new("gpu").unwrap()).is_none(), "an alias is nobody's SVID");
    }

    #[test]
    fn agents_whose_names_share_a_beginning_are_two_agents() {
        let mut index = EntryIndex::default();
        index.put(entry("web", "/spire/agentx", "unix:uid:1"));
        assert!(index.earned(&node("/spire/agent", &[])).is_empty());
    }

    /// F21.
    #[test]
    fn an_entry_that_would_stand_below_itself_is_found_however_long_the_way() {
        let mut index = EntryIndex::default();
        index.put(entry("e0", "/spire/agent/n", "x:1"));
        for n in 1..1000 {
            index.put(entry(&format!("e{n}"), &format!("/e{}", n - 1), "x:1"));
        }
        assert!(index.loops(&entry("e0", "/e999", "x:1")), "by a change of the entry at the top");
        assert!(index.loops(&Entry { id: EntryId::new("other").unwrap(), ..entry("e0", "/e999", "x:2") }));
        assert!(index.loops(&entry("self", "/self", "x:1")));
        assert!(!index.loops(&entry("e1000", "/e999", "x:1")));
        assert!(!index.loops(&entry("e0", "/spire/agent/m", "x:1")));
    }

    #[test]
    fn a_cycle_of_parents_ends() {
        let mut index = EntryIndex::default();
        index.put(entry("a", "/b", "x:1"));
        index.put(entry("b", "/a", "x:1"));
        assert!(index.entitled(&node("/spire/agent/n", &[]), &EntryId::new("a").unwrap()).is_none());
    }
}
