//! Policy: one question, one answer, with the policies that made it. Knows neither SQL nor HTTP.

use proto_types::{PolicyDoc, RoleName, Selector, SpiffeId, Timestamp};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    StartTask,
    Exchange,
}

/// One request, in policy's words.
#[derive(Clone, Debug)]
pub struct Query {
    pub action: Action,
    pub workload: SpiffeId,
    /// `None` only for a task that asks for no grant: then the resource is the trust domain itself.
    pub role: Option<RoleName>,
    pub intent: String,
    pub ttl: Duration,
    pub node: SpiffeId,
    pub uid: u32,
    pub selectors: Vec<Selector>,
    /// The launcher has a uid, unit or container of its own.
    pub launcher_isolated: bool,
    pub parent: Option<SpiffeId>,
    pub depth: u8,
    pub now: Timestamp,
    pub trust_domain: String,
    /// `environment` of the entry's hint and of the target, when they have one.
    pub target_environment: Option<String>,
    pub workload_environment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Permit,
    Deny,
}

/// Policy's answer. Obligations of *every* satisfied permit apply: `max_ttl` is the least of them, and binding is waived
/// only when each of them waives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub outcome: Outcome,
    /// Ids of the deciding policies (permits when permitted, forbids when forbidden; empty when nothing permitted).
    pub policies: Vec<String>,
    pub max_ttl: Option<Duration>,
    /// What is given may go to a caller that proves no key. `false` in every denial.
    pub binding_waived: bool,
    /// For people: why it was denied, in one sentence that says what to do.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy `{policy}`{}: {problem}", line.map(|l| format!(", line {l}")).unwrap_or_default())]
pub struct PolicyProblem {
    pub policy: String,
    pub line: Option<usize>,
    pub problem: String,
}

/// One policy of a set, as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    pub id: String,
    /// The document it was applied in; `errand` for those of the house.
    pub document: String,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    pub description: Option<String>,
    pub max_ttl: Option<Duration>,
    /// Its source, cut to [`MAX_POLICY_TEXT`] characters.
    pub text: String,
}

/// What is quoted of one policy, characters.
pub const MAX_POLICY_TEXT: usize = 2000;

/// A compiled policy set.
pub trait Policy: Send + Sync {
    fn decide(&self, query: &Query) -> Decision;
    /// The policy of this id, as a decision names it.
    fn policy(&self, id: &str) -> Option<PolicyText>;
}

/// Compiles documents; strict validation, all problems at once.
pub trait PolicyCompiler: Send + Sync {
    fn compile(&self, docs: &[PolicyDoc]) -> Result<Arc<dyn Policy>, Vec<PolicyProblem>>;
}
