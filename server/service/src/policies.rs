//! Policies: applying, deleting and asking them. Compiling is the adapter's.

use crate::{Service, ServiceError};
use proto_types::{PolicyDoc, Record};
use serde_json::json;
use server_core::ports::{Commit, Decision, Outcome, Policy, PolicyCompiler, PolicyProblem, PolicyText, Query, Write};
use std::sync::Arc;

/// The compiled set, or the problems that make every answer a deny.
pub(crate) struct Loaded(Result<Arc<dyn Policy>, Vec<PolicyProblem>>);

impl Loaded {
    pub(crate) fn compile(compiler: &dyn PolicyCompiler, docs: &[PolicyDoc]) -> Self {
        let compiled = compiler.compile(docs);
        if let Err(problems) = &compiled {
            for problem in problems {
                tracing::error!(%problem, "the policies do not compile: everything is denied");
            }
        }
        Self(compiled)
    }

    fn quote(&self, ids: &[String]) -> Vec<PolicyText> {
        let Ok(policy) = &self.0 else { return Vec::new() };
        ids.iter().filter_map(|id| policy.policy(id)).collect()
    }

    fn decide(&self, query: &Query) -> Decision {
        match &self.0 {
            Ok(policy) => policy.decide(query),
            Err(_) => Decision {
                outcome: Outcome::Deny,
                policies: Vec::new(),
                max_ttl: None,
                binding_waived: false,
                why: "the policies in force do not compile, so everything is denied; see `errand policy check`".into(),
            },
        }
    }
}

impl Service {
    pub(crate) fn decide(&self, query: &Query) -> Decision {
        self.inner.policy.load().decide(query)
    }

    /// The answer with the policies that made it, both of one set.
    pub(crate) fn decide_and_quote(&self, query: &Query) -> (Decision, Vec<PolicyText>) {
        let loaded = self.inner.policy.load();
        let decision = loaded.decide(query);
        let quoted = loaded.quote(&decision.policies);
        (decision, quoted)
    }

    /// Problems that `text` would bring to the set in force, all at once.
    pub fn policy_problems(&self, id: &str, text: &str) -> Vec<PolicyProblem> {
        self.inner.ports.policies.compile(&self.with_policy(id, text).1).err().unwrap_or_default()
    }

    fn with_policy(&self, id: &str, text: &str) -> (PolicyDoc, Vec<PolicyDoc>) {
        let mut docs = self.read(|s| s.policies.clone());
        let revision = docs.get(id).map_or(1, |d| d.revision + 1);
        let doc = PolicyDoc { id: id.into(), text: text.into(), revision, origin: "applied".into() };
        docs.insert(id.into(), doc.clone());
        (doc, docs.into_values().collect())
    }

    /// Applies one document under its name. Answers it and whether anything changed.
    pub async fn policy_apply(
        &self,
        id: &str,
        text: &str,
        operator: Option<String>,
    ) -> Result<(PolicyDoc, &'static str), ServiceError> {
        if !proto_types::target::is_name(id) {
            let got = proto_types::id::excerpt(id);
            return Err(ServiceError::Invalid(format!("`{got}` is not a policy name: use a-z, 0-9, `-` and `_`")));
        }
        let _one = self.inner.applying.lock().await;
        let before = self.read(|s| s.policies.get(id).cloned());
        if let Some(same) = before.as_ref().filter(|d| d.text == text) {
            return Ok((same.clone(), "unchanged"));
        }
        let (doc, all) = self.with_policy(id, text);
        self.inner.ports.policies.compile(&all).map_err(ServiceError::Policy)?;
        let record = Record::new(self.now(), "policy.applied").operator(operator).detail(json!({ "policy": doc }));
        self.commit_and_follow(Commit::of(record).put(Write::Policy(doc.clone()))).await?;
        Ok((doc, if before.is_some() { "updated" } else { "created" }))
    }

    pub async fn policy_delete(&self, id: &str, operator: Option<String>) -> Result<(), ServiceError> {
        if !self.read(|s| s.policies.contains_key(id)) {
            return Err(ServiceError::not_found("policy", id));
        }
        let record = Record::new(self.now(), "policy.deleted").operator(operator).detail(json!({ "deleted": id }));
        self.commit_and_follow(Commit::of(record).put(Write::DropPolicy(id.into()))).await?;
        Ok(())
    }
}
