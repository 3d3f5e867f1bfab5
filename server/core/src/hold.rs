//! Holds as a server keeps them in memory, and as the journal tells them.
//!
//! Pure. A reason and a user are people's words: they stand in the record's own fields, which the journal salts, and
//! not a second time in `detail`.

use proto_types::{
    Hold, HoldId, Record, Timestamp,
    hold::{Scope, Stopped},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// The holds that stand, found by what they stop.
#[derive(Default)]
pub struct Holds {
    by_id: BTreeMap<HoldId, Arc<Hold>>,
    by_key: HashMap<String, BTreeSet<HoldId>>,
}

impl Holds {
    pub fn put(&mut self, hold: Hold) {
        self.remove(hold.id);
        self.by_key.entry(hold.scope.key()).or_default().insert(hold.id);
        self.by_id.insert(hold.id, Arc::new(hold));
    }

    pub fn remove(&mut self, id: HoldId) -> Option<Arc<Hold>> {
        let old = self.by_id.remove(&id)?;
        let key = old.scope.key();
        if let Some(set) = self.by_key.get_mut(&key) {
            set.remove(&id);
            if set.is_empty() {
                self.by_key.remove(&key);
            }
        }
        Some(old)
    }

    pub fn get(&self, id: HoldId) -> Option<&Arc<Hold>> {
        self.by_id.get(&id)
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Hold>> {
        self.by_id.values()
    }

    /// The oldest hold that stops this. Costs nothing while nothing is held.
    pub fn on(&self, work: &Stopped<'_>) -> Option<&Arc<Hold>> {
        if self.by_id.is_empty() {
            return None;
        }
        let ids = work.keys().into_iter().filter_map(|key| self.by_key.get(&key)?.first().copied());
        self.by_id.get(&ids.min()?)
    }
}

/// The record of one change of a hold: `verb` is `created` or `released`; `operator` is who did this.
pub fn record(verb: &str, hold: &Hold, operator: Option<String>, now: Timestamp) -> Record {
    let mut whole = json!(hold);
    if let Some(fields) = whole.as_object_mut() {
        fields.remove("reason");
        if let Scope::User(_) = hold.scope {
            fields.insert("scope".into(), json!("user"));
        }
    }
    let mut record = Record { kind: format!("hold.{verb}"), ..Record::new(now, "hold.created") }
        .intent(&hold.reason)
        .operator(operator)
        .detail(json!({ "hold": whole }));
    match &hold.scope {
        Scope::Workload(pattern) => record = record.workload(pattern.as_str()),
        Scope::User(user) => record = record.user(Some(user.clone())),
        Scope::Target(name) => record = record.target(name),
        Scope::Node(id) => record = record.node(id),
        Scope::All => {}
    }
    record
}

/// The hold that a record carries; a reason that was redacted comes back empty. `None` when it names no scope (any more).
pub fn from_record(record: &Record) -> Option<Hold> {
    let mut whole = record.detail.get("hold")?.as_object()?.clone();
    if whole.get("scope").and_then(Value::as_str) == Some("user") {
        whole.insert("scope".into(), json!(Scope::user(record.user.as_deref()?).ok()?));
    }
    whole.insert("reason".into(), json!(record.intent.clone().unwrap_or_default()));
    serde_json::from_value(whole.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(n: u8, scope: Scope) -> Hold {
        Hold {
            id: HoldId::new(uuid::Uuid::from_bytes([n; 16])),
            scope,
            reason: "the laptop is lost".into(),
            operator: Some("kim".into()),
            created_at: Timestamp::from_secs(1),
        }
    }

    #[test]
    fn a_record_carries_the_whole_hold_and_neither_reason_nor_user_in_its_detail() {
        for scope in [Scope::All, Scope::User("sam@example.org".into()), Scope::Target("orders-db".into())] {
            let one = hold(1, scope);
            let told = record("created", &one, Some("kim".into()), Timestamp::from_secs(2));
            assert_eq!(from_record(&told), Some(one));
            let detail = told.detail.to_string();
            assert!(!detail.contains("laptop") && !detail.contains("sam@"), "{detail}");
        }
    }

    #[test]
    fn what_two_holds_stop_is_free_when_both_are_gone() {
        let mut holds = Holds::default();
        let work = Stopped { targets: vec!["orders-db"], ..Stopped::default() };
        holds.put(hold(1, Scope::Target("orders-db".into())));
        holds.put(hold(2, Scope::Target("orders-db".into())));
        holds.put(hold(3, Scope::Target("other".into())));
        for (release, still) in [(1, Some(2)), (2, None)] {
            holds.remove(hold(release, Scope::All).id).unwrap();
            assert_eq!(holds.on(&work).map(|h| h.id), still.map(|n| hold(n, Scope::All).id));
        }
        assert!(holds.on(&Stopped { targets: vec!["other"], ..Stopped::default() }).is_some());
    }
}
