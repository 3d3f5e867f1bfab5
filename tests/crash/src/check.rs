//! The ledger checker: holds the four accounts against each other and names what contradicts, rule by rule.
//!
//! Judges a server at rest: one that has recovered and has nothing left to revoke.

use crate::{evidence::Evidence, seen::Seen};
use proto_types::{Lease, LeaseState, Record, Revocability};
use server_core::lease::from_record;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

/// What must hold. The names are what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Every credential a client saw has exactly one durable `lease.handed`.
    SeenWithoutRecord,
    /// What is used up by an attestation is used once.
    TokenSpentTwice,
    /// Nothing lives in the target without a lease row.
    RoleWithoutLease,
    /// Nothing lives in the target whose lease is over.
    RoleOfDeadLease,
    /// What was handed and has not ended is still there.
    HandedWithoutRole,
    /// After recovery no lease is on its way.
    Unfinished,
    /// An acknowledged end is recorded.
    EndWithoutRecord,
    /// The leases of an ended task are over.
    AliveAfterEnd,
    /// Nothing is handed to a task that has ended.
    HandedAfterEnd,
    /// A request with an `Idempotency-Key` has one credential at a time.
    AnsweredTwice,
    /// A name is given once.
    NameTwice,
    /// Row and journal tell the same.
    RowUnlikeJournal,
    /// The journal is what was written.
    JournalTampered,
}

/// Sets of what breaks a rule; empty when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(BTreeMap<Rule, BTreeSet<String>>);

impl Violations {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn of(&self, rule: Rule) -> impl Iterator<Item = &str> {
        self.0.get(&rule).into_iter().flatten().map(String::as_str)
    }
    fn add(&mut self, rule: Rule, what: impl Into<String>) {
        self.0.entry(rule).or_default().insert(what.into());
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rule, what) in &self.0 {
            writeln!(f, "{rule:?}: {what:?}")?;
        }
        Ok(())
    }
}

/// What the journal says about each lease and task.
#[derive(Default)]
struct Story<'a> {
    /// Positions of `lease.handed`, by lease.
    handed: HashMap<String, Vec<u64>>,
    /// Position of `task.ended`, by task.
    ended: HashMap<String, u64>,
    /// How often each serial and `jti` is recorded as issued.
    signed: HashMap<&'a str, usize>,
    /// How often each agent of a join token attested.
    joined: HashMap<&'a str, usize>,
    last: HashMap<String, (Lease, &'a str)>,
    intended_names: BTreeMap<String, BTreeSet<String>>,
    /// Leases that are made or handed, by the key of the request they answer.
    answering: HashMap<Box<str>, BTreeSet<String>>,
    answered_twice: BTreeSet<String>,
}

impl<'a> Story<'a> {
    fn of(records: &'a [(u64, Record)]) -> Self {
        let mut story = Self::default();
        for (position, record) in records {
            if let (Some(task), "task.ended") = (record.task_id, record.kind.as_str()) {
                story.ended.entry(task.to_string()).or_insert(*position);
            }
            if let (Some(issued), "svid.minted" | "jwt_svid.minted" | "token.issued") =
                (&record.credential, record.kind.as_str())
            {
                *story.signed.entry(issued.id.as_str()).or_default() += 1;
            }
            if let (Some(node), "node.attested") = (&record.node, record.kind.as_str())
                && node.contains("/spire/agent/join_token/")
            {
                *story.joined.entry(node.as_str()).or_default() += 1;
            }
            let Some(lease) = record.kind.starts_with("lease.").then(|| from_record(record)).flatten() else {
                continue;
            };
            let id = lease.id.to_string();
            match record.kind.as_str() {
                "lease.handed" => story.handed.entry(id.clone()).or_default().push(*position),
                "lease.intended" => {
                    let name = format!("{}:{}", lease.role.target(), lease.name.as_str());
                    story.intended_names.entry(name).or_default().insert(id.clone());
                }
                _ => {}
            }
            if let Some(attempt) = &lease.attempt {
                let alive = story.answering.entry(attempt.key.clone()).or_default();
                match lease.state {
                    LeaseState::Intended | LeaseState::Handed => alive.insert(id.clone()),
                    _ => alive.remove(&id),
                };
                if alive.len() > 1 {
                    story.answered_twice.insert(format!("{}: {alive:?}", attempt.key));
                }
            }
            story.last.insert(id, (lease, &record.kind));
        }
        story
    }
}

/// All rules at once.
pub fn check(evidence: &Evidence) -> Violations {
    let mut found = Violations::default();
    let story = Story::of(&evidence.records);
    if let Some(why) = &evidence.tampered {
        found.add(Rule::JournalTampered, why.clone());
    }
    seen(&mut found, evidence, &story);
    target(&mut found, evidence);
    rows(&mut found, evidence, &story);
    for (node, times) in story.joined.iter().filter(|(_, times)| **times > 1) {
        found.add(Rule::TokenSpentTwice, format!("{node} attested {times} times"));
    }
    for twice in &story.answered_twice {
        found.add(Rule::AnsweredTwice, twice);
    }
    for (name, ids) in story.intended_names.iter().filter(|(_, ids)| ids.len() > 1) {
        found.add(Rule::NameTwice, format!("{name} for {ids:?}"));
    }
    for (lease, (last, kind)) in &story.last {
        if !evidence.leases.iter().any(|l| l.id == last.id) {
            found.add(Rule::RowUnlikeJournal, format!("{lease}: no row, last record {kind}"));
        }
    }
    found
}

fn seen(found: &mut Violations, evidence: &Evidence, story: &Story<'_>) {
    for seen in &evidence.seen {
        match seen {
            Seen::Credential { task, lease, name, .. } => {
                let handed = story.handed.get(lease).map_or(&[][..], Vec::as_slice);
                let [at] = handed else {
                    found.add(Rule::SeenWithoutRecord, format!("{lease} ({name}): {} records", handed.len()));
                    continue;
                };
                let is_another =
                    |l: &Lease| (!name.is_empty() && l.name.as_str() != name) || &l.task_id.to_string() != task;
                if story.last.get(lease).is_none_or(|(l, _)| is_another(l)) {
                    found.add(
                        Rule::SeenWithoutRecord,
                        format!("{lease}: its record names another task or role than {name}"),
                    );
                }
                if story.ended.get(task).is_some_and(|end| end < at) {
                    found.add(Rule::HandedAfterEnd, format!("{lease} of {task}: seen by a client"));
                }
            }
            Seen::Signed { kind, id } => {
                let records = story.signed.get(id.as_str()).copied().unwrap_or_default();
                if records != 1 {
                    found.add(Rule::SeenWithoutRecord, format!("{kind} {id}: {records} records"));
                }
            }
            Seen::Ended { task } if !story.ended.contains_key(task) => found.add(Rule::EndWithoutRecord, task),
            Seen::Ended { .. } => {}
        }
    }
}

fn target(found: &mut Violations, evidence: &Evidence) {
    let by_name: HashMap<&str, &Lease> = evidence.leases.iter().map(|l| (l.name.as_str(), l)).collect();
    for name in evidence.roles.iter().chain(&evidence.sessions) {
        match by_name.get(name.as_str()) {
            None => found.add(Rule::RoleWithoutLease, name),
            Some(lease) if lease.state.is_final() => {
                found.add(Rule::RoleOfDeadLease, format!("{name} ({} is {})", lease.id, lease.state.as_str()));
            }
            Some(_) => {}
        }
    }
    // Only what was created in the target can be looked for there.
    let handed = evidence.leases.iter().filter(|l| l.state == LeaseState::Handed);
    for lease in handed.filter(|l| l.revocability != Revocability::TtlOnly) {
        if !evidence.roles.contains(lease.name.as_str()) {
            found.add(Rule::HandedWithoutRole, format!("{} ({})", lease.name.as_str(), lease.id));
        }
    }
}

fn rows(found: &mut Violations, evidence: &Evidence, story: &Story<'_>) {
    let mut names = BTreeSet::new();
    for lease in &evidence.leases {
        let id = lease.id.to_string();
        if matches!(lease.state, LeaseState::Intended | LeaseState::Revoking) {
            found.add(Rule::Unfinished, format!("{id} is {}: {:?}", lease.state.as_str(), lease.last_error));
        }
        if !names.insert((lease.role.target(), lease.name.as_str())) {
            found.add(Rule::NameTwice, lease.name.as_str());
        }
        let ended = story.ended.get(&lease.task_id.to_string());
        // What nobody can revoke lingers to its end.
        if ended.is_some() && !lease.state.is_final() && lease.state != LeaseState::Lingering {
            found.add(Rule::AliveAfterEnd, format!("{id} of {} is {}", lease.task_id, lease.state.as_str()));
        }
        let handed = story.handed.get(&id).into_iter().flatten();
        if let Some((at, end)) = handed.zip(ended).find(|(at, end)| at > end) {
            found.add(Rule::HandedAfterEnd, format!("{id}: handed at {at}, its task ended at {end}"));
        }
        match story.last.get(&id) {
            Some((last, _)) if last.state == lease.state && last.name == lease.name => {}
            Some((last, kind)) => {
                let told = format!("{id}: row {}, last record {kind} ({})", lease.state.as_str(), last.state.as_str());
                found.add(Rule::RowUnlikeJournal, told);
            }
            None => found.add(Rule::RowUnlikeJournal, format!("{id}: row {}, no record", lease.state.as_str())),
        }
    }
}
