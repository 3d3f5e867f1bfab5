//! What one node sees: everything it is entitled to, then every change, as it happens.
//!
//! Driven by the journal's changes; the cost of a change is that of looking at the entry that changed. Knows nothing of
//! streams or protobuf.

use crate::{AgentCaller, Change, Service, ServiceError};
use proto_types::{Entry, EntryId, Node, SpiffeId, TaskId};
use server_core::{entry::is_for_nodes, ports::Bundle};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};

/// Changes put into one message at most.
const BATCH: usize = 256;

/// One message to an agent.
#[derive(Debug, Default)]
pub struct NodeUpdate {
    /// The journal position it is current as of.
    pub position: u64,
    /// Replace everything held.
    pub reset: bool,
    pub entries: Vec<Arc<Entry>>,
    pub removed: Vec<EntryId>,
    pub bundle: Option<Arc<Bundle>>,
    pub ended: Vec<(TaskId, &'static str)>,
    pub live: Vec<TaskId>,
}

impl NodeUpdate {
    fn is_empty(&self) -> bool {
        !self.reset
            && self.entries.is_empty()
            && self.removed.is_empty()
            && self.bundle.is_none()
            && self.ended.is_empty()
    }
}

/// One agent's view, kept by whoever sends it.
pub struct NodeWatch {
    service: Service,
    node: SpiffeId,
    changes: Receiver<Change>,
    /// What the agent was last told: entry → revision.
    told: HashMap<EntryId, u64>,
    bundle: u64,
    fresh: bool,
}

impl Service {
    /// From another server an agent comes with what that one told it: what is told here is no older.
    pub async fn watch(&self, caller: &AgentCaller) -> Result<NodeWatch, ServiceError> {
        self.confirm().await?;
        Ok(NodeWatch {
            changes: self.changes(),
            service: self.clone(),
            node: caller.id().clone(),
            told: HashMap::new(),
            bundle: 0,
            fresh: false,
        })
    }
}

impl NodeWatch {
    /// The next message; an error ends the watch (the node is gone or banned, or nothing is heard here of what changes).
    pub async fn next(&mut self) -> Result<NodeUpdate, ServiceError> {
        if !self.fresh {
            return self.whole();
        }
        loop {
            let change = tokio::select! {
                change = self.changes.recv() => change,
                lost = self.service.adrift() => return Err(lost),
            };
            let first = match change {
                Ok(change) => change,
                // Too far behind to follow: the whole view again.
                Err(RecvError::Lagged(_)) => return self.whole(),
                Err(RecvError::Closed) => return Err(ServiceError::Unavailable("the server is stopping".into())),
            };
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match self.changes.try_recv() {
                    Ok(change) => batch.push(change),
                    Err(TryRecvError::Lagged(_)) => return self.whole(),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            let update = self.fold(batch)?;
            if !update.is_empty() {
                return Ok(update);
            }
        }
    }

    fn node(&self) -> Result<Arc<Node>, ServiceError> {
        let node = self.service.read(|s| s.nodes.get(&self.node).cloned()).ok_or(ServiceError::AgentUnknown)?;
        if node.banned { Err(ServiceError::AgentBanned) } else { Ok(node) }
    }

    fn whole(&mut self) -> Result<NodeUpdate, ServiceError> {
        // Subscribe before looking: what changes in between is told twice rather than never.
        self.changes = self.service.changes();
        let node = self.node()?;
        let position = *self.service.inner.applied.borrow();
        let (entries, live) = self.service.read(|s| {
            let live = s.tasks.values().filter(|t| t.node == node.id).map(|t| t.id).collect();
            (s.earned(&node), live)
        });
        let entries: Vec<_> = entries.into_iter().filter(|e| !is_for_nodes(e)).collect();
        self.told = entries.iter().map(|e| (e.id.clone(), e.revision)).collect();
        self.fresh = true;
        let bundle = self.service.inner.ports.authorities.bundle();
        self.bundle = bundle.sequence;
        Ok(NodeUpdate { position, reset: true, entries, bundle: Some(bundle), live, ..NodeUpdate::default() })
    }

    fn fold(&mut self, batch: Vec<Change>) -> Result<NodeUpdate, ServiceError> {
        let mut entries: BTreeSet<EntryId> = BTreeSet::new();
        let mut holds = false;
        let mut update = NodeUpdate::default();
        for change in batch {
            match change {
                Change::Entry { before, after } => {
                    if [&before, &after].into_iter().flatten().any(|e| self.shapes_others(e)) {
                        return self.whole();
                    }
                    if let Some(id) = after.as_ref().or(before.as_ref()).map(|e| e.id.clone()) {
                        entries.insert(id);
                    }
                }
                Change::Node { id, gone } if id == self.node => {
                    if gone {
                        return Err(self.node().err().unwrap_or(ServiceError::AgentUnknown));
                    }
                }
                Change::Task(task) if task.node == self.node => {
                    if let Some(reason) = task.end_reason {
                        update.ended.push((task.id, reason.as_str()));
                    }
                }
                Change::Bundle => {
                    let bundle = self.service.inner.ports.authorities.bundle();
                    if bundle.sequence != self.bundle {
                        self.bundle = bundle.sequence;
                        update.bundle = Some(bundle);
                    }
                }
                Change::Hold => holds = true,
                Change::Everything => return self.whole(),
                Change::Node { .. } | Change::Task(_) | Change::Lease(_) | Change::Policy | Change::Authority => {}
            }
        }
        update.position = *self.service.inner.applied.borrow();
        if holds {
            // What was told and is held now, and what was kept back and is free.
            let node = self.node()?;
            entries.extend(self.service.read(|s| {
                let mut earned = s.entries.earned(&node);
                earned.retain(|e| self.told.contains_key(&e.id) == s.hold_on_entry(&node, e).is_some());
                earned.into_iter().map(|e| e.id.clone()).collect::<Vec<_>>()
            }));
        }
        if !entries.is_empty() {
            self.tell_entries(entries, &mut update)?;
        }
        Ok(update)
    }

    /// Whether other entries may hang below this one, for this node: then the view is computed anew.
    fn shapes_others(&self, entry: &Entry) -> bool {
        is_for_nodes(entry) || self.service.read(|s| s.entries.has_children(&entry.spiffe_id))
    }

    fn tell_entries(&mut self, entries: BTreeSet<EntryId>, update: &mut NodeUpdate) -> Result<(), ServiceError> {
        let node = self.node()?;
        for id in entries {
            let entitled = self.service.read(|s| {
                let entry = s.entries.entitled(&node, &id)?;
                s.hold_on_entry(&node, entry).is_none().then(|| entry.clone())
            });
            match entitled {
                Some(entry) => {
                    self.told.insert(id, entry.revision);
                    update.entries.push(entry);
                }
                None if self.told.remove(&id).is_some() => update.removed.push(id),
                None => {}
            }
        }
        Ok(())
    }
}
