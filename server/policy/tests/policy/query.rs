//! A query as a table writes it, and documents compiled.

use proto_types::{PolicyDoc, Selector, Timestamp, id::parse_spiffe_id, parse_duration};
use serde::Deserialize;
use server_core::ports::{Action, Policy, PolicyCompiler, PolicyProblem, Query};
use server_policy::CedarCompiler;
use std::sync::Arc;

/// Whatever a case does not say is as ordinary as can be.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    pub action: Option<String>,
    pub workload: Option<String>,
    pub role: Option<String>,
    pub intent: Option<String>,
    pub ttl: Option<String>,
    pub uid: u32,
    pub selectors: Vec<String>,
    pub isolated: bool,
    pub parent: Option<String>,
    pub depth: u8,
    pub environment: Option<String>,
    pub target_environment: Option<String>,
}

impl Asked {
    pub fn query(&self) -> Query {
        let or = |text: &Option<String>, default: &str| text.clone().unwrap_or_else(|| default.into());
        Query {
            action: if self.action.as_deref() == Some("exchange") { Action::Exchange } else { Action::StartTask },
            workload: parse_spiffe_id(&or(&self.workload, "spiffe://example.org/agents/planner")).unwrap(),
            role: match self.role.as_deref() {
                Some("") => None,
                role => Some(role.unwrap_or("orders-db/readonly").parse().unwrap()),
            },
            intent: or(&self.intent, "count the open orders"),
            ttl: parse_duration(&or(&self.ttl, "15m")).unwrap(),
            node: parse_spiffe_id("spiffe://example.org/spire/agent/join_token/n1").unwrap(),
            uid: self.uid,
            selectors: self.selectors.iter().map(|s| Selector::parse(s).unwrap()).collect(),
            launcher_isolated: self.isolated,
            parent: self.parent.as_deref().map(|p| parse_spiffe_id(p).unwrap()),
            depth: self.depth,
            now: Timestamp::from_secs(1_795_000_000),
            trust_domain: "example.org".into(),
            target_environment: self.target_environment.clone(),
            workload_environment: self.environment.clone(),
        }
    }
}

pub fn doc(id: &str, text: &str) -> PolicyDoc {
    PolicyDoc { id: id.into(), text: text.into(), revision: 1, origin: "applied".into() }
}

pub fn compile(docs: &[PolicyDoc]) -> Result<Arc<dyn Policy>, Vec<PolicyProblem>> {
    CedarCompiler::default().compile(docs)
}
