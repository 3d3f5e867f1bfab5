//! A directory as the wanted state: targets, policies and entries, compared with what is, and made so.
//!
//! Planning looks and changes nothing; applying plans again and carries the plan out, so that what is done is what was
//! true then. What a directory made is marked as its own: targets and policies by their origin, entries by their id. Only
//! that is ever deleted, and only when asked.

use crate::{Service, ServiceError, targets};
use proto_types::{Entry, EntryId, PolicyDoc, Record, TargetDoc};
use serde_json::{Value, json};
use server_core::ports::{Commit, PolicyProblem, Write};
use std::{collections::BTreeMap, sync::Arc};
use tokio::task::JoinSet;

/// The origin of what a directory declared.
pub const DIRECTORY: &str = "directory";
/// What the ids of a directory's entries begin with.
pub const ENTRY_PREFIX: &str = "apply.";
/// Entries written side by side: what one group of the ledger takes.
const AT_ONCE: usize = 64;

/// What a directory says.
#[derive(Debug, Default)]
pub struct Wanted {
    /// TOML with `[[target]]` tables.
    pub targets: String,
    /// Cedar text by name.
    pub policies: BTreeMap<String, String>,
    /// Each with an id that begins with [`ENTRY_PREFIX`].
    pub entries: Vec<Entry>,
    /// Delete what a directory made and this one does not have.
    pub prune: bool,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Change {
    /// `target`, `policy` or `entry`.
    pub kind: &'static str,
    pub name: String,
    /// `create`, `update` or `delete`.
    pub change: &'static str,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Field {
    pub field: String,
    pub before: Value,
    pub after: Value,
}

/// The differences: targets, policies, entries, each by name. In this order they are made; deletions go the other way.
#[derive(Debug, Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// How many things are as they should be.
    pub unchanged: usize,
    targets: Vec<TargetDoc>,
    policies: Vec<PolicyDoc>,
    entries: Vec<(Entry, bool)>,
}

impl Service {
    /// What [`Self::apply`] would do. Everything that would be refused is refused here.
    pub fn apply_plan(&self, wanted: &Wanted) -> Result<Plan, ServiceError> {
        let mut plan = Plan::default();
        self.plan_targets(wanted, &mut plan)?;
        self.plan_policies(wanted, &mut plan)?;
        self.plan_entries(wanted, &mut plan)?;
        Ok(plan)
    }

    /// Makes it so. What fails half way is said, and applying again goes on from there.
    pub async fn apply(&self, wanted: &Wanted, operator: Option<String>) -> Result<Plan, ServiceError> {
        let plan = self.apply_plan(wanted)?;
        self.apply_docs(plan.targets.clone(), operator.clone()).await?;
        self.commit_policies(&plan, operator.as_ref()).await?;
        for some in plan.entries.chunks(AT_ONCE) {
            let mut running = JoinSet::new();
            for (entry, is_new) in some.iter().cloned() {
                let (service, operator) = (self.clone(), operator.clone());
                running.spawn(async move {
                    let name = entry.id.to_string();
                    let done = match is_new {
                        true => service.entry_create(entry, operator).await.map(drop),
                        false => service.entry_update(entry, operator).await.map(drop),
                    };
                    done.map_err(|e| in_entry(&name, &e))
                });
            }
            running.join_all().await.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
        for gone in plan.deletes("entry") {
            self.entry_delete(&EntryId::new(gone.to_string())?, operator.clone()).await?;
        }
        for gone in plan.deletes("target") {
            self.target_delete(gone, operator.clone()).await?;
        }
        Ok(plan)
    }

    fn plan_targets(&self, wanted: &Wanted, plan: &mut Plan) -> Result<(), ServiceError> {
        let docs = (self.inner.ports.parse_targets)(&wanted.targets, DIRECTORY).map_err(ServiceError::Target)?;
        let before: BTreeMap<String, TargetDoc> =
            self.read(|s| s.targets.iter().map(|(name, t)| (name.clone(), t.doc.clone())).collect());
        let mut problems = Vec::new();
        for doc in &docs {
            if before.get(&doc.name).is_some_and(|b| b.origin == "config") {
                return Err(targets::declared(&doc.name));
            }
            problems.extend((self.inner.ports.build_target)(doc).err().into_iter().flatten());
        }
        if !problems.is_empty() {
            return Err(ServiceError::Target(problems));
        }
        let view = |doc: &TargetDoc| {
            let mut body = doc.body.clone();
            body["origin"] = json!(doc.origin);
            if doc.retired {
                body["retired"] = json!(true);
            }
            body
        };
        for doc in docs {
            plan.add("target", &doc.name, before.get(&doc.name).map(view), Some(view(&doc)));
            plan.targets.push(doc);
        }
        for doc in before.values().filter(|d| wanted.prune && d.origin == DIRECTORY && !d.retired) {
            if !plan.targets.iter().any(|w| w.name == doc.name) {
                plan.add("target", &doc.name, Some(view(doc)), None);
            }
        }
        Ok(())
    }

    fn plan_policies(&self, wanted: &Wanted, plan: &mut Plan) -> Result<(), ServiceError> {
        let before = self.read(|s| s.policies.clone());
        let mut all = before.clone();
        let view = |doc: &PolicyDoc| json!({ "text": doc.text, "origin": doc.origin });
        for (name, text) in &wanted.policies {
            if !proto_types::target::is_name(name) {
                let problem = "this is not a name: use a-z, 0-9, `-` and `_`, at most 63".to_string();
                return Err(ServiceError::Policy(vec![PolicyProblem { policy: name.clone(), line: None, problem }]));
            }
            let old = before.get(name);
            let revision = old.map_or(1, |d| d.revision + 1);
            let doc = PolicyDoc { id: name.clone(), text: text.clone(), revision, origin: DIRECTORY.into() };
            if plan.add("policy", name, old.map(view), Some(view(&doc))) {
                plan.policies.push(doc.clone());
            }
            all.insert(name.clone(), doc);
        }
        for doc in before.values().filter(|d| wanted.prune && d.origin == DIRECTORY) {
            if !wanted.policies.contains_key(&doc.id) {
                plan.add("policy", &doc.id, Some(view(doc)), None);
                all.remove(&doc.id);
            }
        }
        let all: Vec<PolicyDoc> = all.into_values().collect();
        self.inner.ports.policies.compile(&all).map(drop).map_err(ServiceError::Policy)
    }

    /// One commit: a policy that moves from one file to another is never in none, and never in both.
    async fn commit_policies(&self, plan: &Plan, operator: Option<&String>) -> Result<(), ServiceError> {
        let _one = self.inner.applying.lock().await;
        // Another operator may have changed policies since they were planned.
        let mut all = self.read(|s| s.policies.clone());
        all.extend(plan.policies.iter().map(|doc| (doc.id.clone(), doc.clone())));
        all.retain(|id, _| !plan.deletes("policy").any(|gone| gone == id));
        let all: Vec<PolicyDoc> = all.into_values().collect();
        self.inner.ports.policies.compile(&all).map_err(ServiceError::Policy)?;
        let record = |kind, detail| Record::new(self.now(), kind).operator(operator.cloned()).detail(detail);
        let put = plan
            .policies
            .iter()
            .map(|doc| (record("policy.applied", json!({ "policy": doc })), Write::Policy(doc.clone())));
        let gone = plan
            .deletes("policy")
            .map(|id| (record("policy.deleted", json!({ "deleted": id })), Write::DropPolicy(id.into())));
        let unit = put.chain(gone).fold(None, |unit: Option<Commit>, (record, write)| {
            let unit = match unit {
                None => Commit::of(record),
                Some(unit) => unit.also(record),
            };
            Some(unit.put(write))
        });
        match unit {
            Some(unit) => self.commit_and_follow(unit).await.map(drop),
            None => Ok(()),
        }
    }

    fn plan_entries(&self, wanted: &Wanted, plan: &mut Plan) -> Result<(), ServiceError> {
        let ours: BTreeMap<EntryId, Arc<Entry>> = self.read(|s| {
            let made = s.entries.iter().filter(|e| e.id.as_str().starts_with(ENTRY_PREFIX));
            made.map(|e| (e.id.clone(), e.clone())).collect()
        });
        let mut entries: BTreeMap<EntryId, Entry> = BTreeMap::new();
        for entry in &wanted.entries {
            let name = entry.id.to_string();
            let entry = entry.clone().checked(&self.inner.settings.trust_domain).map_err(|e| in_entry(&name, &e))?;
            if !name.starts_with(ENTRY_PREFIX) {
                return Err(in_entry(&name, &format!("the id of an applied entry begins with `{ENTRY_PREFIX}`")));
            }
            if entries.insert(entry.id.clone(), entry).is_some() {
                return Err(in_entry(&name, &"two entries have this name"));
            }
        }
        for (id, entry) in &entries {
            let same = self.read(|s| s.entries.similar(entry).cloned()).filter(|e| e.id != *id);
            if let Some(same) = same.filter(|same| !entries.contains_key(&same.id)) {
                let why = format!(
                    "entry `{}` gives the same identity to the same processes; delete it, or leave this one out",
                    same.id
                );
                return Err(in_entry(id.as_str(), &why));
            }
            let old = ours.get(id);
            if plan.add("entry", id.as_str(), old.map(|e| entry_view(e)), Some(entry_view(entry))) {
                plan.entries.push((entry.clone(), old.is_none()));
            }
        }
        for (id, old) in ours.iter().filter(|(id, _)| wanted.prune && !entries.contains_key(id)) {
            plan.add("entry", id.as_str(), Some(entry_view(old)), None);
        }
        Ok(())
    }
}

/// What a person may change of an entry.
fn entry_view(entry: &Entry) -> Value {
    let mut view = json!(entry);
    if let Some(fields) = view.as_object_mut() {
        for own in ["id", "revision", "created_at"] {
            fields.remove(own);
        }
        fields.insert("selectors".into(), json!(entry.selectors.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    view
}

fn in_entry(name: &str, why: &impl std::fmt::Display) -> ServiceError {
    let name = proto_types::id::excerpt(name.strip_prefix(ENTRY_PREFIX).unwrap_or(name));
    ServiceError::Invalid(format!("entry `{name}`: {why}"))
}

impl Plan {
    /// The names of what goes.
    fn deletes(&self, kind: &'static str) -> impl Iterator<Item = &str> {
        self.changes.iter().filter(move |c| c.change == "delete" && c.kind == kind).map(|c| c.name.as_str())
    }

    /// Notes the difference between what is and what should be; whether there is one.
    fn add(&mut self, kind: &'static str, name: &str, before: Option<Value>, after: Option<Value>) -> bool {
        let change = match (&before, &after) {
            (None, _) => "create",
            (Some(_), None) => "delete",
            (Some(b), Some(a)) if b == a => {
                self.unchanged += 1;
                return false;
            }
            (Some(_), Some(_)) => "update",
        };
        let (before, after) = (before.unwrap_or_else(|| json!({})), after.unwrap_or_else(|| json!({})));
        let names = [&before, &after].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        let fields = names.into_iter().filter(|n| before.get(n.as_str()) != after.get(n.as_str())).map(|n| Field {
            field: n.clone(),
            before: before.get(n).cloned().unwrap_or_default(),
            after: after.get(n).cloned().unwrap_or_default(),
        });
        self.changes.push(Change { kind, name: name.into(), change, fields: fields.collect() });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_the_fields_that_differ_and_nothing_of_what_is_as_it_should_be() {
        let mut plan = Plan::default();
        let (old, new) = (json!({ "a": 1, "b": 2, "c": 3 }), json!({ "a": 1, "b": 5, "d": 4 }));
        assert!(!plan.add("entry", "same", Some(old.clone()), Some(old.clone())));
        assert!(plan.add("entry", "changed", Some(old.clone()), Some(new)));
        assert!(plan.add("entry", "gone", Some(old.clone()), None));
        assert!(plan.add("target", "gone-too", Some(old), None));
        assert!(plan.add("entry", "made", None, Some(json!({ "a": 1 }))));
        let fields: Vec<_> = plan.changes[0].fields.iter().map(|f| f.field.as_str()).collect();
        assert_eq!((plan.unchanged, fields), (1, vec!["b", "c", "d"]));
        let changes: Vec<_> = plan.changes.iter().map(|c| c.change).collect();
        assert_eq!(changes, ["update", "delete", "delete", "create"]);
        assert_eq!(plan.deletes("entry").collect::<Vec<_>>(), ["gone"]);
    }
}
