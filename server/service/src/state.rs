//! What a server holds in memory: everything the issuing path asks about. Made from a snapshot, kept current from the
//! journal alone. Reads never touch the database.

use crate::{TargetBuilder, follow::Change, revoked::RevokedTokens};
use proto_types::{
    Entry, EntryId, Hold, Lease, LeaseId, LeaseState, Node, PolicyDoc, Record, SpiffeId, TargetDoc, Task, TaskId,
    Timestamp, hold::Stopped,
};
use server_core::{
    entry::EntryIndex,
    hold::Holds,
    lease::next_due,
    ports::{Snapshot, Target, TargetProblem},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Sorts behind every lease of its millisecond.
fn last_lease() -> LeaseId {
    LeaseId::new(uuid::Uuid::max())
}

/// A declared target, and the adapter that speaks to it (or why there is none).
pub struct TargetEntry {
    pub doc: TargetDoc,
    pub target: Result<Arc<dyn Target>, Vec<TargetProblem>>,
}

#[derive(Default)]
pub struct State {
    pub entries: EntryIndex,
    pub nodes: HashMap<SpiffeId, Arc<Node>>,
    /// Tasks that have not ended.
    pub tasks: HashMap<TaskId, Arc<Task>>,
    children: HashMap<TaskId, BTreeSet<TaskId>>,
    deadlines: BTreeSet<(Timestamp, TaskId)>,
    /// Rises when something went that a task may stand on (a node, an entry, its parent), or a hold came.
    pub(crate) shaken: u64,
    /// Serials of task SVIDs, lowercase hex: accepted while the task lives.
    pub serials: HashMap<String, TaskId>,
    task_serials: HashMap<TaskId, Vec<String>>,
    pub revoked_tokens: RevokedTokens,
    /// Leases that are not in a final state.
    pub leases: HashMap<LeaseId, Arc<Lease>>,
    task_leases: HashMap<TaskId, BTreeSet<LeaseId>>,
    /// When the reconciler looks at each lease next; the key under which each stands.
    due: BTreeSet<(Timestamp, LeaseId)>,
    due_at: HashMap<LeaseId, Timestamp>,
    pub targets: BTreeMap<String, TargetEntry>,
    /// Audiences that targets take tokens of ours for, each with those targets.
    pub audiences: HashMap<String, BTreeSet<String>>,
    pub policies: BTreeMap<String, PolicyDoc>,
    pub holds: Holds,
}

impl State {
    pub fn from_snapshot(snapshot: Snapshot, build: &TargetBuilder) -> Self {
        let mut state = Self::default();
        for entry in snapshot.entries {
            state.entries.put(entry);
        }
        for node in snapshot.nodes {
            state.nodes.insert(node.id.clone(), Arc::new(node));
        }
        for task in snapshot.tasks {
            state.put_task(task);
        }
        for (task, serial, _) in snapshot.serials {
            state.put_serial(task, serial);
        }
        for (jti, expires_at) in snapshot.revoked_tokens {
            // Whatever the store still has is kept: nothing here says what time it is.
            state.revoked_tokens.put(jti, expires_at, Timestamp::default());
        }
        for lease in snapshot.leases {
            state.put_lease(lease);
        }
        for doc in snapshot.targets {
            state.put_target(doc, build);
        }
        for doc in snapshot.policies {
            state.policies.insert(doc.id.clone(), doc);
        }
        for hold in snapshot.holds {
            state.holds.put(hold);
        }
        state
    }

    /// How much there is, roughly: what loading all of it costs, counted in records.
    pub(crate) fn nouns(&self) -> u64 {
        (self.entries.len() + self.nodes.len() + self.tasks.len() + self.leases.len() + self.serials.len()) as u64
    }

    /// Takes over what one record says. Answers what watchers should hear.
    pub(crate) fn apply(&mut self, record: &Record, build: &TargetBuilder) -> Option<Change> {
        let (noun, verb) = record.kind.split_once('.')?;
        match noun {
            "entry" => self.apply_entry(record, verb),
            "node" => self.apply_node(record, verb),
            "task" => {
                let task = server_core::task::from_record(record)?;
                let change = Change::Task(Arc::new(task.clone()));
                self.put_task(task);
                Some(change)
            }
            "svid" => {
                if let (Some(task), Some(credential)) = (record.task_id, &record.credential) {
                    self.put_serial(task, credential.id.clone());
                }
                None
            }
            "token" if verb == "revoked" => {
                let expires_at: Timestamp = whole(record, "not_after")?;
                self.revoked_tokens.put(record.credential.as_ref()?.id.clone(), expires_at, record.time);
                None
            }
            "lease" => {
                let lease: Arc<Lease> = whole(record, "lease")?;
                self.put_lease(lease.clone());
                Some(Change::Lease(lease))
            }
            "target" => {
                if verb == "deleted" {
                    self.drop_target(record.target.as_deref()?);
                } else {
                    self.put_target(whole(record, "target")?, build);
                }
                None
            }
            "policy" => {
                if verb == "deleted" {
                    self.policies.remove(record.detail.get("deleted")?.as_str()?);
                } else {
                    let doc: PolicyDoc = whole(record, "policy")?;
                    self.policies.insert(doc.id.clone(), doc);
                }
                Some(Change::Policy)
            }
            "hold" => {
                let hold = server_core::hold::from_record(record)?;
                self.shaken += 1;
                if verb == "released" {
                    self.holds.remove(hold.id);
                } else {
                    self.holds.put(hold);
                }
                Some(Change::Hold)
            }
            "authority" => Some(Change::Authority),
            _ => None,
        }
    }

    /// What the node is entitled to and no hold keeps from it.
    pub fn earned(&self, node: &Node) -> Vec<Arc<Entry>> {
        let mut earned = self.entries.earned(node);
        earned.retain(|e| self.hold_on_entry(node, e).is_none());
        earned
    }

    /// The hold that keeps this node from the identity of this entry.
    pub fn hold_on_entry(&self, node: &Node, entry: &Entry) -> Option<&Arc<Hold>> {
        self.holds.on(&Stopped::workload(&entry.spiffe_id).on(&node.id))
    }

    fn apply_entry(&mut self, record: &Record, verb: &str) -> Option<Change> {
        if verb == "deleted" {
            let id = EntryId::new(record.detail.get("deleted")?.as_str()?).ok()?;
            let before = self.entries.remove(&id)?;
            self.shaken += 1;
            return Some(Change::Entry { before: Some(before), after: None });
        }
        let entry: Entry = whole(record, "entry")?;
        let id = entry.id.clone();
        let before = self.entries.put(entry);
        Some(Change::Entry { before, after: self.entries.get(&id).cloned() })
    }

    fn apply_node(&mut self, record: &Record, verb: &str) -> Option<Change> {
        let id = if verb == "evicted" {
            let id = proto_types::id::parse_spiffe_id(record.node.as_deref()?).ok()?;
            self.nodes.remove(&id);
            id
        } else {
            let node: Node = whole(record, "node")?;
            let id = node.id.clone();
            self.nodes.insert(id.clone(), Arc::new(node));
            id
        };
        let gone = matches!(verb, "evicted" | "banned");
        self.shaken += u64::from(gone);
        Some(Change::Node { id, gone })
    }

    fn put_task(&mut self, task: Task) {
        if let Some(before) = self.tasks.get(&task.id) {
            self.deadlines.remove(&(before.ends_at, before.id));
        }
        if server_core::task::is_over(task.state) {
            self.tasks.remove(&task.id);
            if let Some(set) = task.parent.and_then(|p| self.children.get_mut(&p)) {
                set.remove(&task.id);
            }
            let below = self.children.remove(&task.id).unwrap_or_default();
            self.shaken += u64::from(!below.is_empty());
            for serial in self.task_serials.remove(&task.id).unwrap_or_default() {
                self.serials.remove(&serial);
            }
            for lease in self.leases_of(task.id) {
                self.schedule(lease.id, self.when_due(&lease));
            }
            return;
        }
        if let Some(parent) = task.parent {
            self.children.entry(parent).or_default().insert(task.id);
        }
        self.deadlines.insert((task.ends_at, task.id));
        self.tasks.insert(task.id, Arc::new(task));
    }

    /// Live tasks whose deadline has passed, the longest overdue first.
    pub fn past_deadline(&self, now: Timestamp) -> Vec<TaskId> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    fn put_serial(&mut self, task: TaskId, serial: String) {
        // A serial that arrives after its task ended is never accepted.
        if self.tasks.contains_key(&task) {
            self.serials.insert(serial.clone(), task);
            self.task_serials.entry(task).or_default().push(serial);
        }
    }

    /// Takes over a lease's whole new value; also the reconciler's own note of a try that failed.
    pub(crate) fn put_lease(&mut self, lease: Arc<Lease>) {
        let (id, task) = (lease.id, lease.task_id);
        self.schedule(id, self.when_due(&lease));
        if lease.state.is_final() {
            self.leases.remove(&id);
            if let Some(set) = self.task_leases.get_mut(&task) {
                set.remove(&id);
                if set.is_empty() {
                    self.task_leases.remove(&task);
                }
            }
            return;
        }
        self.task_leases.entry(task).or_default().insert(id);
        self.leases.insert(id, lease);
    }

    /// A credential whose task is over is due now: its `handed` and the end may stand in the journal in either order.
    fn when_due(&self, lease: &Lease) -> Option<Timestamp> {
        if self.outlives_its_task(lease) { Some(Timestamp::default()) } else { next_due(lease) }
    }

    pub fn outlives_its_task(&self, lease: &Lease) -> bool {
        lease.state == LeaseState::Handed && !self.tasks.contains_key(&lease.task_id)
    }

    fn schedule(&mut self, id: LeaseId, at: Option<Timestamp>) {
        if let Some(old) = self.due_at.remove(&id) {
            self.due.remove(&(old, id));
        }
        if let Some(at) = at {
            self.due_at.insert(id, at);
            self.due.insert((at, id));
        }
    }

    fn put_target(&mut self, doc: TargetDoc, build: &TargetBuilder) {
        let target = build(&doc);
        // A document that cannot be built any more keeps what it reserved: in doubt nobody gets such a token.
        if let Ok(target) = &target {
            self.release_audiences(&doc.name);
            for audience in target.audiences() {
                self.audiences.entry(audience).or_default().insert(doc.name.clone());
            }
        }
        self.targets.insert(doc.name.clone(), TargetEntry { doc, target });
    }

    fn drop_target(&mut self, name: &str) {
        self.targets.remove(name);
        self.release_audiences(name);
    }

    fn release_audiences(&mut self, name: &str) {
        self.audiences.retain(|_, targets| {
            targets.remove(name);
            !targets.is_empty()
        });
    }

    /// The leases of a task that are not over.
    pub fn leases_of(&self, task: TaskId) -> Vec<Arc<Lease>> {
        let ids = self.task_leases.get(&task).into_iter().flatten();
        ids.filter_map(|id| self.leases.get(id).cloned()).collect()
    }

    /// Leases whose time has come and that are wanted, soonest first, and the time of the first that has not.
    pub fn due_leases(
        &self,
        now: Timestamp,
        max: usize,
        mut wanted: impl FnMut(&Lease) -> bool,
    ) -> (Vec<Arc<Lease>>, Option<Timestamp>) {
        let next = self.due.range((std::ops::Bound::Excluded((now, last_lease())), std::ops::Bound::Unbounded)).next();
        let ready = self.due.iter().take_while(|(at, _)| *at <= now).filter_map(|(_, id)| self.leases.get(id));
        (ready.filter(|l| wanted(l)).take(max).cloned().collect(), next.map(|(at, _)| *at))
    }

    /// A task and every live task below it.
    pub fn tree_of(&self, task: TaskId) -> Vec<Arc<Task>> {
        let mut out = Vec::new();
        let mut edge = vec![task];
        while let Some(id) = edge.pop() {
            out.extend(self.tasks.get(&id).cloned());
            edge.extend(self.children.get(&id).into_iter().flatten());
        }
        out
    }
}

/// The whole new value that a record carries.
fn whole<T: serde::de::DeserializeOwned>(record: &Record, field: &str) -> Option<T> {
    let value = serde_json::from_value(record.detail.get(field)?.clone());
    if let Err(error) = &value {
        // A record this program wrote and cannot read is a bug, not an input; the state would be wrong in silence.
        tracing::error!(kind = record.kind, %error, "a journal record cannot be followed");
    }
    value.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_types::hold::Scope;
    use serde_json::json;
    use server_core::ports::Snapshot;
    use std::time::Duration;
    use testkit::ledger_law::nouns::{at, ended, entry, hold, node, record, task};

    fn build() -> TargetBuilder {
        Arc::new(|_| Err(Vec::new()))
    }

    /// Two tasks, the second below the first, with entry and node.
    fn state() -> State {
        let below = Task { parent: Some(task(1).id), ends_at: at(60), ..task(2) };
        let (entries, nodes, tasks) = (vec![entry(1, 1)], vec![node(1)], vec![task(1), below]);
        State::from_snapshot(Snapshot { entries, nodes, tasks, ..Snapshot::default() }, &build())
    }

    fn follow(state: &mut State, record: &Record) {
        state.apply(record, &build());
    }

    #[test]
    fn a_deadline_is_passed_at_its_moment_and_not_before_and_moves_with_its_task() {
        let mut state = state();
        let before = |state: &State, t: Timestamp| state.past_deadline(t.minus(Duration::from_millis(1)));
        assert_eq!((before(&state, at(60)), state.past_deadline(at(60))), (vec![], vec![task(2).id]));
        assert_eq!(state.past_deadline(at(3600)), [task(2).id, task(1).id], "the longest overdue first");
        state.put_task(Task { ends_at: at(90), ..task(2) });
        assert_eq!((state.past_deadline(at(60)), state.past_deadline(at(90))), (vec![], vec![task(2).id]));
        state.put_task(ended(Task { ends_at: at(90), ..task(2) }));
        assert_eq!(state.past_deadline(at(3600)), [task(1).id]);
    }

    #[test]
    fn whatever_takes_something_from_under_a_task_is_a_reason_to_look() {
        let over = |task: &Task| server_core::task::record("ended", task, at(1), None);
        let deleted = record("entry.deleted").detail(json!({ "deleted": entry(1, 1).id }));
        let banned = record("node.banned").detail(json!({ "node": Node { banned: true, ..node(1) } }));
        let evicted = record("node.evicted").node(node(1).id.to_string());
        let held = server_core::hold::record("created", &hold(1, Scope::All), None, at(1));
        for shakes in [&deleted, &banned, &evicted, &held, &over(&ended(task(1)))] {
            let mut state = state();
            follow(&mut state, shakes);
            assert_eq!(state.shaken, 1, "{}", shakes.kind);
        }
        let leaf = ended(Task { parent: Some(task(1).id), ..task(2) });
        let updated = record("node.updated").detail(json!({ "node": node(1) }));
        for does_not in [&over(&leaf), &updated, &record("decision.made")] {
            let mut state = state();
            follow(&mut state, does_not);
            assert_eq!(state.shaken, 0, "{}", does_not.kind);
        }
    }
}
