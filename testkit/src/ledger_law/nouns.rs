//! Well-formed nouns by number, for tests of stores.

use proto_types::{
    CredentialName, EndReason, Entry, EntryId, Epoch, Grant, Hold, JoinToken, KeyUse, Lease, LeaseId, LeaseState, Node,
    PolicyDoc, Record, Revocability, Selector, SpiffeId, TargetDoc, Task, TaskId, TaskState, Timestamp, hold::Scope,
};
use server_core::ports::{AuthorityRow, AuthorityState, Claim, Commit, Guard, entry_fingerprint};
use std::time::Duration;

/// When every test begins.
pub const T0: Timestamp = Timestamp::from_secs(1_795_000_000);

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(T0.as_millis() + seconds * 1000)
}

pub fn record(kind: &'static str) -> Record {
    Record::new(T0, kind)
}

/// A unit that says something happened, and nothing else.
pub fn note() -> Commit {
    Commit::of(record("decision.made"))
}

pub fn spiffe(path: &str) -> SpiffeId {
    SpiffeId::new(format!("spiffe://example.org{path}")).expect("invariant: tests name valid paths")
}

fn uuid(n: u64) -> String {
    format!("018f2f0c-8f6b-7c3e-8a52-{n:012x}")
}

pub fn task_id(n: u64) -> TaskId {
    uuid(n).parse().expect("invariant: a lowercase UUID")
}

pub fn lease_id(n: u64) -> LeaseId {
    uuid(n).parse().expect("invariant: a lowercase UUID")
}

pub fn entry_id(n: u64) -> EntryId {
    EntryId::new(format!("entry-{n}")).expect("invariant: letters and digits")
}

/// Entry `n`; `like` gives it its identity and selectors: two numbers alike are two entries that may not both be.
pub fn entry(n: u64, like: u64) -> Entry {
    Entry {
        id: entry_id(n),
        spiffe_id: spiffe(&format!("/agents/{like}")),
        parent_id: spiffe("/spire/agent/x"),
        selectors: vec![Selector::new("unix", format!("uid:{like}")).expect("invariant: a selector")],
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
        created_at: T0,
    }
}

/// The guards under which an entry is made.
pub fn new_entry(unit: Commit, entry: &Entry) -> Commit {
    unit.when(Guard::EntryAt(entry.id.clone(), 0))
        .when(Guard::EntryUnique(entry.id.clone(), entry_fingerprint(entry)))
        .put(server_core::ports::Write::Entry(entry.clone()))
}

pub fn node(n: u64) -> Node {
    Node {
        id: spiffe(&format!("/spire/agent/join_token/{n}")),
        attestation_type: "join_token".into(),
        selectors: vec![],
        serial: format!("a{n}"),
        next_serial: Some(format!("b{n}")),
        expires_at: at(3600),
        banned: false,
        can_reattest: false,
        attested_at: T0,
        version: "0.1.0".into(),
    }
}

pub fn join_token(n: u64) -> JoinToken {
    JoinToken { digest: format!("{n:064x}"), expires_at: at(600), alias: Some("spiffe://example.org/web".into()) }
}

pub fn task(n: u64) -> Task {
    Task {
        id: task_id(n),
        parent: None,
        root: task_id(n),
        depth: 0,
        workload: spiffe("/agents/planner"),
        entry: entry_id(1),
        node: node(1).id,
        user: Some(format!("user-{}@example.org", n % 2)),
        intent: "fix the nightly report".into(),
        state: TaskState::Active,
        epoch: Epoch(1),
        grants: vec![Grant {
            role: "orders-db/readonly".parse().expect("invariant: a role"),
            max_ttl: Duration::from_secs(300),
            policies: vec!["default".into()],
        }],
        handle: false,
        uid: 1000,
        selectors: vec![],
        started_at: at(n as i64),
        ends_at: at(3600),
        ended_at: None,
        end_reason: None,
    }
}

/// The same task, over: its epoch raised.
pub fn ended(task: Task) -> Task {
    Task {
        state: TaskState::Ended,
        epoch: Epoch(task.epoch.0 + 1),
        ended_at: Some(at(60)),
        end_reason: Some(EndReason::Completed),
        ..task
    }
}

pub fn lease(n: u64, of: u64) -> Lease {
    Lease {
        id: lease_id(n),
        task_id: task_id(of),
        workload: spiffe("/agents/planner"),
        role: "orders-db/readonly".parse().expect("invariant: a role"),
        kind: "postgres".into(),
        name: CredentialName::of("k3m9x", lease_id(n)),
        state: LeaseState::Intended,
        revocability: Revocability::SessionKill,
        issued_at: at(n as i64),
        expires_at: at(300),
        revoked_at: None,
        handle: proto_types::Handle::default(),
        due_at: at(10),
        tries: 0,
        last_error: None,
        attempt: None,
    }
}

pub fn claim(kind: &'static str, key: &str) -> Claim {
    Claim { kind, key: key.into(), expires_at: at(600) }
}

pub fn authority(id: &str) -> AuthorityRow {
    AuthorityRow {
        id: id.into(),
        key_use: KeyUse::JwtSvid,
        state: AuthorityState::Active,
        sealed: vec![1, 2, 3],
        public: vec![4, 5],
        created_at: T0,
        not_after: at(86_400),
    }
}

pub fn target(name: &str) -> TargetDoc {
    TargetDoc {
        name: name.into(),
        kind: "postgres".into(),
        body: serde_json::json!({"url": "postgres://errand@127.0.0.1/orders"}),
        origin: "applied".into(),
        revision: 1,
        retired: false,
    }
}

pub fn policy(id: &str) -> PolicyDoc {
    PolicyDoc {
        id: id.into(),
        text: "permit(principal, action, resource);".into(),
        revision: 1,
        origin: "applied".into(),
    }
}

pub fn hold(n: u64, scope: Scope) -> Hold {
    Hold {
        id: uuid(n).parse().expect("invariant: a lowercase UUID"),
        scope,
        reason: "the laptop is lost".into(),
        operator: Some("kim".into()),
        created_at: T0,
    }
}
