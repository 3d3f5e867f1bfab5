//! What policy would answer, and who could get a role: asked by operators, decided by the same policies, and nothing
//! is started, issued or recorded.
//!
//! Where the operator does not say what the kernel would, the workload's entry speaks: its selectors, the uid among
//! them, and the node it is for. What was taken from there is in the answer.

use crate::{Service, ServiceError};
use proto_types::{Entry, EntryId, Hold, RoleName, Selector, SpiffeId, hold::Stopped};
use server_core::{
    entry::is_for_nodes,
    ports::{Action, Decision, Outcome, PolicyText, Query},
    task,
};
use std::{sync::Arc, time::Duration};

/// The uid of a workload whose entry names none: nobody.
const NOBODY: u32 = 65_534;
/// How long a task token lives at most.
const TASK_TOKEN_TTL: Duration = Duration::from_secs(300);
/// Nodes looked at for one entry.
const MAX_NODES: usize = 64;

/// What an operator wants to know. What is `None` is taken from the workload's entry.
#[derive(Clone, Debug)]
pub struct Hypothesis {
    pub action: Action,
    pub workload: SpiffeId,
    /// `None`: a task as such.
    pub role: Option<RoleName>,
    pub intent: String,
    pub ttl: Option<Duration>,
    pub user: Option<String>,
    pub node: Option<SpiffeId>,
    pub uid: Option<u32>,
    pub selectors: Option<Vec<Selector>>,
    pub parent: Option<SpiffeId>,
}

/// What the question was completed with.
#[derive(Clone, Debug)]
pub struct Assumed {
    /// The entry that spoke; `None` when no entry gives this identity.
    pub entry: Option<EntryId>,
    pub node: SpiffeId,
    pub uid: u32,
    pub selectors: Vec<Selector>,
    pub ttl: Duration,
}

#[derive(Debug)]
pub struct Explained {
    pub assumed: Assumed,
    pub decision: Decision,
    /// The policies that decided.
    pub policies: Vec<PolicyText>,
    /// The longest a credential of the role may live, whatever policy says.
    pub role_max_ttl: Option<Duration>,
    /// A hold refuses it whatever policy says.
    pub hold: Option<Arc<Hold>>,
}

/// One way to a role: a workload by an entry on a node, by policies.
#[derive(Debug)]
pub struct Path {
    pub entry: Arc<Entry>,
    /// `None`: no node that is entitled to the entry has attested.
    pub node: Option<SpiffeId>,
    pub policies: Vec<String>,
    pub max_ttl: Duration,
    pub hold: Option<Arc<Hold>>,
}

/// A role, and the circumstances under which it is asked for.
struct WhoCan<'a> {
    role: &'a RoleName,
    intent: &'a str,
    ttl: Option<Duration>,
    role_max_ttl: Duration,
}

impl Service {
    /// What policy would answer now.
    pub fn policy_explain(&self, asked: &Hypothesis) -> Result<Explained, ServiceError> {
        let limits = asked.role.as_ref().map(|r| self.role_limits(r)).transpose()?;
        let role_max_ttl = limits.map(|l| l.max_ttl);
        let assumed = self.assume(asked, role_max_ttl)?;
        let (decision, policies) = self.decide_and_quote(&self.query(asked, &assumed));
        let work = Stopped {
            workload: Some(&asked.workload),
            user: asked.user.as_deref(),
            node: Some(&assumed.node),
            targets: asked.role.iter().map(RoleName::target).collect(),
        };
        let hold = self.read(|s| s.holds.on(&work).cloned());
        Ok(Explained { decision, policies, role_max_ttl, hold, assumed })
    }

    /// Entries through which the role may be had by a task of its own, in the order of their ids: behind `after`, at most
    /// `max`, and where to go on. Both questions, the start and the exchange, must be permitted.
    pub fn who_can(
        &self,
        role: &RoleName,
        intent: &str,
        ttl: Option<Duration>,
        after: Option<&EntryId>,
        max: usize,
    ) -> Result<(Vec<Path>, Option<EntryId>), ServiceError> {
        let asked = WhoCan { role, intent, ttl, role_max_ttl: self.role_limits(role)?.max_ttl };
        let mut entries: Vec<Arc<Entry>> = self.read(|s| {
            s.entries.iter().filter(|e| !is_for_nodes(e) && after.is_none_or(|a| e.id > *a)).cloned().collect()
        });
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        let mut paths = Vec::new();
        for entry in &entries {
            let nodes: Vec<Option<SpiffeId>> = match self.nodes_of(entry) {
                none if none.is_empty() => vec![None],
                some => some.into_iter().map(Some).collect(),
            };
            for node in nodes {
                paths.extend(self.path_by(entry, node, &asked));
            }
            // Whole entries only: a page that ended between two nodes could not be gone on from.
            if paths.len() >= max {
                return Ok((paths, Some(entry.id.clone())));
            }
        }
        Ok((paths, None))
    }

    fn path_by(&self, entry: &Arc<Entry>, node: Option<SpiffeId>, asked: &WhoCan<'_>) -> Option<Path> {
        let on = node.clone().unwrap_or_else(|| entry.parent_id.clone());
        let (mut policies, mut max_ttl) = (Vec::new(), asked.role_max_ttl);
        for action in [Action::StartTask, Action::Exchange] {
            let hypothesis = Hypothesis {
                action,
                workload: entry.spiffe_id.clone(),
                role: Some(asked.role.clone()),
                intent: asked.intent.into(),
                ttl: None,
                user: None,
                node: Some(on.clone()),
                uid: None,
                selectors: Some(entry.selectors.clone()),
                parent: None,
            };
            // The exchange is asked about what the start granted.
            let ttl = if action == Action::StartTask { asked.ttl.unwrap_or(task::DEFAULT_TTL) } else { max_ttl };
            let assumed = assume(&hypothesis, Some(entry), on.clone(), ttl);
            let decision = self.decide(&self.query(&hypothesis, &assumed));
            if decision.outcome != Outcome::Permit {
                return None;
            }
            policies.extend(decision.policies);
            max_ttl = max_ttl.min(decision.max_ttl.unwrap_or(max_ttl));
        }
        policies.sort();
        policies.dedup();
        let work = Stopped { targets: vec![asked.role.target()], ..Stopped::workload(&entry.spiffe_id).on(&on) };
        let hold = self.read(|s| s.holds.on(&work).cloned());
        Some(Path { entry: entry.clone(), node, policies, max_ttl, hold })
    }

    fn nodes_of(&self, entry: &Entry) -> Vec<SpiffeId> {
        let mut nodes: Vec<SpiffeId> = self.read(|s| {
            let entitled = s.nodes.values().filter(|n| !n.banned && s.entries.entitled(n, &entry.id).is_some());
            entitled.take(MAX_NODES).map(|n| n.id.clone()).collect()
        });
        nodes.sort_by_key(ToString::to_string);
        nodes
    }

    fn assume(&self, asked: &Hypothesis, role_max_ttl: Option<Duration>) -> Result<Assumed, ServiceError> {
        let mut entries: Vec<Arc<Entry>> = self.read(|s| {
            s.entries.iter().filter(|e| e.spiffe_id == asked.workload && !is_for_nodes(e)).cloned().collect()
        });
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        // The entry for the node that was named, when one is.
        let fits = |e: &&Arc<Entry>| asked.node.as_ref().is_none_or(|n| self.nodes_of(e).contains(n));
        let entry = entries.iter().find(fits).or(entries.first());
        let node = asked.node.clone().or_else(|| {
            let entry = entry?;
            Some(self.nodes_of(entry).into_iter().next().unwrap_or_else(|| entry.parent_id.clone()))
        });
        let node = node.ok_or_else(|| {
            let why =
                format!("no entry gives `{}`; create one, or name the node to ask as if there were", asked.workload);
            ServiceError::Invalid(why)
        })?;
        let ttl = asked.ttl.unwrap_or(match (asked.action, role_max_ttl) {
            (Action::StartTask, _) => task::DEFAULT_TTL,
            (Action::Exchange, Some(longest)) => longest,
            (Action::Exchange, None) => TASK_TOKEN_TTL,
        });
        Ok(assume(asked, entry, node, ttl))
    }

    fn query(&self, asked: &Hypothesis, assumed: &Assumed) -> Query {
        Query {
            action: asked.action,
            workload: asked.workload.clone(),
            role: asked.role.clone(),
            intent: asked.intent.clone(),
            ttl: assumed.ttl,
            node: assumed.node.clone(),
            uid: assumed.uid,
            selectors: assumed.selectors.clone(),
            launcher_isolated: false,
            parent: asked.parent.clone(),
            depth: u8::from(asked.parent.is_some()),
            now: self.now(),
            trust_domain: self.inner.settings.trust_domain.to_string(),
            workload_environment: None,
            target_environment: asked.role.as_ref().and_then(|r| self.environment(r)),
        }
    }
}

fn assume(asked: &Hypothesis, entry: Option<&Arc<Entry>>, node: SpiffeId, ttl: Duration) -> Assumed {
    let selectors = asked.selectors.clone().or_else(|| entry.map(|e| e.selectors.clone())).unwrap_or_default();
    let of_unix = |s: &Selector| s.value().strip_prefix("uid:").filter(|_| s.kind() == "unix")?.parse().ok();
    let uid = asked.uid.or_else(|| selectors.iter().find_map(of_unix)).unwrap_or(NOBODY);
    Assumed { entry: entry.map(|e| e.id.clone()), node, uid, selectors, ttl }
}
