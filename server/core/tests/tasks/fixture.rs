//! Ordinary tasks, identities and answers of policy.

use proto_types::{LeaseId, RoleName, Task, TaskId, Timestamp, id::parse_spiffe_id};
use server_core::{
    ports::{Decision, Outcome},
    task::{Ruling, StartRequest, check, start},
};
use std::time::Duration;

pub const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

pub fn role(text: &str) -> RoleName {
    text.parse().unwrap()
}

pub fn task_id(n: u64) -> TaskId {
    format!("018f2f0c-8f6b-7c3e-8a52-{n:012x}").parse().unwrap()
}

pub fn lease_id(n: u64) -> LeaseId {
    format!("018f2f0d-8f6b-7c3e-8a52-{n:012x}").parse().unwrap()
}

pub fn request(n: u64, roles: &[&str]) -> StartRequest {
    StartRequest {
        id: task_id(n),
        workload: parse_spiffe_id("spiffe://example.org/agents/planner").unwrap(),
        entry: proto_types::EntryId::new("planner").unwrap(),
        node: parse_spiffe_id("spiffe://example.org/spire/agent/n1").unwrap(),
        user: None,
        intent: "count the open orders".into(),
        ttl: None,
        grants: roles.iter().map(|r| role(r)).collect(),
        handle: false,
        uid: 1000,
        selectors: Vec::new(),
    }
}

pub fn permit(max_ttl: Option<Duration>) -> Decision {
    let (policies, why) = (vec!["p".into()], "permitted by p".into());
    Decision { outcome: Outcome::Permit, policies, max_ttl, binding_waived: false, why }
}

pub fn deny() -> Decision {
    let (policies, why) = (vec!["no".into()], "forbidden by no".into());
    Decision { outcome: Outcome::Deny, policies, max_ttl: None, binding_waived: false, why }
}

/// Permits all that is asked, each role for half an hour.
pub fn rulings(asks: Vec<Option<RoleName>>) -> Vec<Ruling> {
    let rule = |role| Ruling { role, role_max_ttl: Duration::from_secs(1800), decision: permit(None) };
    asks.into_iter().map(rule).collect()
}

/// A live task with these grants.
pub fn task(n: u64, roles: &[&str], parent: Option<&Task>) -> Task {
    let checked = check(request(n, roles), parent, NOW).unwrap();
    let asks = checked.asks();
    start(checked, &rulings(asks)).unwrap()
}
