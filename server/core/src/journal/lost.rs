//! What a store that went back no longer knows: its lost records, told by kinds, and what of them ended something.
//!
//! Decides what may be done again from records that a store has lost: what narrows what is allowed, and nothing that
//! widens it. A credential that was handed, an entry that was made, a policy that was changed are named for people.

use proto_types::{EntryId, Hold, HoldId, Lease, Position, Record, SpiffeId, TaskId, Timestamp, id::parse_spiffe_id};
use serde_json::Value;
use std::collections::BTreeMap;

/// Something that was ended or stopped by a lost record.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Entry(EntryId),
    NodeEvicted(SpiffeId),
    NodeBanned(SpiffeId),
    Task(TaskId),
    /// Boxed: the others are small.
    Held(Box<Hold>),
    /// A task token, whose record names its task, with its end.
    Token(Box<Record>, Timestamp),
}

/// The lost records.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// Where the first and the last of them stood.
    pub first: Option<Position>,
    pub last: Option<Position>,
    /// How many of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// In the order of the journal, without holds that were released again.
    pub endings: Vec<Ending>,
    /// Credentials that left the house and that no lease of the store accounts for, but for those that were ended again.
    pub handed: BTreeMap<String, Lease>,
    /// The last moment at which something signed may still be believed by whoever verifies offline.
    pub signed_until: Option<Timestamp>,
}

impl Lost {
    /// Takes one lost record.
    pub fn add(&mut self, position: Position, record: &Record) {
        self.first.get_or_insert(position);
        self.last = Some(position);
        *self.kinds.entry(record.kind.clone()).or_default() += 1;
        if let Some(until) = of::<Timestamp>(record, "not_after") {
            self.signed_until = self.signed_until.max(Some(until));
        }
        if let Some(hold) = crate::hold::from_record(record) {
            match record.kind.as_str() {
                "hold.released" => self.release(hold.id),
                _ => self.endings.push(Ending::Held(Box::new(hold))),
            }
        }
        if let Some(lease) = crate::lease::from_record(record) {
            match record.kind.as_str() {
                "lease.handed" => drop(self.handed.insert(lease.id.to_string(), lease)),
                _ if lease.state.is_final() => drop(self.handed.remove(&lease.id.to_string())),
                _ => {}
            }
        }
        self.endings.extend(ending(record));
    }

    /// A hold that is older than the lost records stands, although its release was lost: lifting it widens.
    fn release(&mut self, id: HoldId) {
        self.endings.retain(|e| !matches!(e, Ending::Held(hold) if hold.id == id));
    }
}

fn ending(record: &Record) -> Option<Ending> {
    let node = || parse_spiffe_id(record.node.as_deref()?).ok();
    match record.kind.as_str() {
        "entry.deleted" => Some(Ending::Entry(of(record, "deleted")?)),
        "node.evicted" => Some(Ending::NodeEvicted(node()?)),
        "node.banned" => Some(Ending::NodeBanned(node()?)),
        "task.ended" => Some(Ending::Task(record.task_id?)),
        "token.revoked" => {
            record.credential.as_ref()?;
            Some(Ending::Token(Box::new(record.clone()), of(record, "not_after")?))
        }
        _ => None,
    }
}

fn of<T: serde::de::DeserializeOwned>(record: &Record, field: &str) -> Option<T> {
    serde_json::from_value(record.detail.get(field).cloned().unwrap_or(Value::Null)).ok()
}
