//! The answer to one query, and the sentence that says to a person what to do about it.

use crate::{obligation::Notes, request};
use cedar_policy::{AuthorizationError, Authorizer, Decision as Verdict, Effect, PolicyId, PolicySet, Response};
use server_core::ports::{Action, Decision, MAX_POLICY_TEXT, Outcome, Policy, PolicyText, Query};
use std::{collections::HashMap, time::Duration};

const SHOW: &str = "`errand policy show` prints what is in force";

/// A compiled set: shared by every request, changed by none.
pub(crate) struct Compiled {
    authorizer: Authorizer,
    set: PolicySet,
    notes: HashMap<PolicyId, Notes>,
    /// Nobody has applied a policy.
    empty: bool,
}

impl Compiled {
    pub(crate) fn new(set: PolicySet, notes: HashMap<PolicyId, Notes>, empty: bool) -> Self {
        Self { authorizer: Authorizer::new(), set, notes, empty }
    }

    fn permit(&self, policies: Vec<String>) -> Decision {
        let why = format!("permitted by {}", policies.join(", "));
        let notes = || policies.iter().map(|id| self.notes.get(&PolicyId::new(id)));
        let max_ttl: Option<Duration> = notes().filter_map(|n| n?.max_ttl).min();
        let binding_waived = !policies.is_empty() && notes().all(|n| n.is_some_and(|n| n.binding_waived));
        Decision { outcome: Outcome::Permit, policies, max_ttl, binding_waived, why }
    }

    fn forbidden(&self, policies: Vec<String>) -> Decision {
        let reason = policies.iter().find_map(|id| self.notes.get(&PolicyId::new(id))?.description.as_deref());
        let because = reason.map(|r| format!(" ({r})")).unwrap_or_default();
        let why = format!("forbidden by {}{because}; {SHOW}", policies.join(", "));
        deny(policies, why)
    }

    fn unmatched(&self, query: &Query) -> Decision {
        let why = if self.empty {
            "there is no policy, and without one everything is denied; add one with `errand policy apply -f FILE`"
                .into()
        } else {
            let what = asked(query);
            format!("no policy permits {} {what}; {SHOW}, `errand policy apply -f FILE` adds to it", query.workload)
        };
        deny(Vec::new(), why)
    }
}

impl Policy for Compiled {
    fn decide(&self, query: &Query) -> Decision {
        let (request, entities) = match request::build(query) {
            Ok(built) => built,
            Err(why) => return deny(Vec::new(), format!("the request cannot be put to policy: {why}")),
        };
        let response = self.authorizer.is_authorized(&request, &self.set, &entities);
        let failed = failed(&response);
        let deciding = sorted(response.diagnostics().reason());
        match response.decision() {
            // A policy that failed might have forbidden: without its answer there is no permit.
            Verdict::Allow | Verdict::Deny if !failed.is_empty() => failed_to_decide(failed),
            Verdict::Allow => self.permit(deciding),
            Verdict::Deny if deciding.is_empty() => self.unmatched(query),
            Verdict::Deny => self.forbidden(deciding),
        }
    }

    fn policy(&self, id: &str) -> Option<PolicyText> {
        let key = PolicyId::new(id);
        let (policy, notes) = (self.set.policy(&key)?, self.notes.get(&key)?);
        Some(PolicyText {
            id: id.into(),
            document: notes.document.clone(),
            effect: match policy.effect() {
                Effect::Permit => "permit",
                Effect::Forbid => "forbid",
            },
            description: notes.description.clone(),
            max_ttl: notes.max_ttl,
            text: policy.to_string().chars().take(MAX_POLICY_TEXT).collect(),
        })
    }
}

fn sorted<'a>(ids: impl Iterator<Item = &'a PolicyId>) -> Vec<String> {
    let mut ids: Vec<String> = ids.map(ToString::to_string).collect();
    ids.sort();
    ids
}

fn failed(response: &Response) -> Vec<String> {
    sorted(response.diagnostics().errors().map(|AuthorizationError::PolicyEvaluationError(e)| e.policy_id()))
}

/// The error itself may quote the query, so only the policy is named.
fn failed_to_decide(policies: Vec<String>) -> Decision {
    let why = format!(
        "{} could not be evaluated (a number too large, or nesting too deep), and what cannot be decided is denied; {SHOW}",
        policies.join(", ")
    );
    deny(policies, why)
}

fn deny(policies: Vec<String>, why: String) -> Decision {
    Decision { outcome: Outcome::Deny, policies, max_ttl: None, binding_waived: false, why }
}

fn asked(query: &Query) -> String {
    match (query.action, &query.role) {
        (Action::StartTask, Some(role)) => format!("to start a task with {role}"),
        (Action::StartTask, None) => "to start a task".into(),
        (Action::Exchange, Some(role)) => format!("to exchange for {role}"),
        (Action::Exchange, None) => "to exchange for a task token".into(),
    }
}
