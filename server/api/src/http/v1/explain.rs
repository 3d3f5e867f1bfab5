//! `/v1/policies/explain` and `/v1/policies/who-can`: what policy would answer, and who could get a role.

use super::query::Params;
use crate::{Api, problem::Problem};
use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use proto_types::{EntryId, RoleName, Selector, SpiffeId, format_duration, id::parse_spiffe_id, parse_duration};
use serde::Deserialize;
use serde_json::{Value, json};
use server_core::ports::{Action, Outcome, PolicyText};
use server_service::{Assumed, Explained, Hypothesis, Path, ServiceError};
use std::{fmt::Display, time::Duration};

/// Roles asked about at once: as many as a task may have.
const MAX_ROLES: usize = server_core::task::MAX_GRANTS;
/// Paths of a page: at most, and when not said.
const MAX_PATHS: usize = 1000;
const DEFAULT_PATHS: usize = 100;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/policies/explain", post(explain)).route("/v1/policies/who-can", get(who_can))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    workload: String,
    /// None: a task as such.
    #[serde(default)]
    grants: Vec<String>,
    /// `start_task` or `exchange`; both when not said.
    action: Option<String>,
    #[serde(default)]
    intent: String,
    ttl: Option<String>,
    user: Option<String>,
    node: Option<String>,
    uid: Option<u32>,
    selectors: Option<Vec<String>>,
    parent: Option<String>,
}

fn bad(e: impl Display) -> Problem {
    Problem::invalid(e.to_string())
}

fn spiffe_id(text: Option<&String>) -> Result<Option<SpiffeId>, Problem> {
    text.map(|t| parse_spiffe_id(t).map_err(bad)).transpose()
}

fn duration(text: Option<&String>) -> Result<Option<Duration>, Problem> {
    text.map(|t| parse_duration(t).map_err(bad)).transpose()
}

fn intent(text: &str) -> Result<String, Problem> {
    if text.is_empty() { Ok(String::new()) } else { server_core::task::intent(text).map_err(bad) }
}

impl Question {
    fn actions(&self) -> Result<Vec<Action>, Problem> {
        match self.action.as_deref() {
            None => Ok(vec![Action::StartTask, Action::Exchange]),
            Some("start_task") => Ok(vec![Action::StartTask]),
            Some("exchange") => Ok(vec![Action::Exchange]),
            Some(_) => Err(Problem::invalid("an action is start_task or exchange")),
        }
    }

    /// Each action with each role.
    fn hypotheses(&self) -> Result<Vec<Hypothesis>, Problem> {
        if self.grants.len() > MAX_ROLES {
            return Err(Problem::invalid(format!("ask about at most {MAX_ROLES} grants at once")));
        }
        let mut roles: Vec<Option<RoleName>> =
            self.grants.iter().map(|g| g.parse().map(Some).map_err(bad)).collect::<Result<_, _>>()?;
        if roles.is_empty() {
            roles.push(None);
        }
        let selectors = self.selectors.as_ref().map(|list| list.iter().map(|s| Selector::parse(s)).collect());
        let selectors: Option<Vec<Selector>> = selectors.transpose().map_err(bad)?;
        let ask = |action, role: &Option<RoleName>| {
            Ok(Hypothesis {
                action,
                workload: parse_spiffe_id(&self.workload).map_err(bad)?,
                role: role.clone(),
                intent: intent(&self.intent)?,
                ttl: duration(self.ttl.as_ref())?,
                user: self.user.clone(),
                node: spiffe_id(self.node.as_ref())?,
                uid: self.uid,
                selectors: selectors.clone(),
                parent: spiffe_id(self.parent.as_ref())?,
            })
        };
        let actions = self.actions()?;
        roles.iter().flat_map(|role| actions.iter().map(move |action| ask(*action, role))).collect()
    }
}

async fn explain(State(api): State<Api>, Json(question): Json<Question>) -> Result<Json<Value>, Problem> {
    let mut answers = Vec::new();
    for asked in question.hypotheses()? {
        answers.push(answer(&asked, &api.service.policy_explain(&asked)?));
    }
    Ok(Json(json!({ "workload": question.workload, "answers": answers })))
}

/// `permit`, `deny` or `held`.
fn outcome(found: &Explained) -> &'static str {
    match (&found.decision.outcome, &found.hold) {
        (Outcome::Deny, _) => "deny",
        (Outcome::Permit, Some(_)) => "held",
        (Outcome::Permit, None) => "permit",
    }
}

fn answer(asked: &Hypothesis, found: &Explained) -> Value {
    let action = match asked.action {
        Action::StartTask => "start_task",
        Action::Exchange => "exchange",
    };
    // What a credential may live is the least of what policy and the role allow.
    let max_ttl = [found.decision.max_ttl, found.role_max_ttl].into_iter().flatten().min();
    json!({
        "action": action,
        "role": asked.role,
        "outcome": outcome(found),
        "why": found.decision.why,
        "max_ttl": max_ttl.map(format_duration),
        "hold": found.hold.as_ref().map(|h| h.id),
        "policies": found.policies.iter().map(policy).collect::<Vec<_>>(),
        "assumed": assumed(&found.assumed),
    })
}

fn policy(text: &PolicyText) -> Value {
    json!({
        "id": text.id,
        "document": text.document,
        "effect": text.effect,
        "description": text.description,
        "max_ttl": text.max_ttl.map(format_duration),
        "text": text.text,
    })
}

fn assumed(found: &Assumed) -> Value {
    json!({
        "entry_id": found.entry,
        "node": found.node.to_string(),
        "uid": found.uid,
        "selectors": found.selectors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ttl": format_duration(found.ttl),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoCan {
    role: String,
    #[serde(default)]
    intent: String,
    ttl: Option<String>,
    limit: Option<usize>,
    /// The entry that the page before ended with.
    before: Option<String>,
}

async fn who_can(State(api): State<Api>, Params(asked): Params<WhoCan>) -> Result<Json<Value>, Problem> {
    let role: RoleName = asked.role.parse().map_err(bad)?;
    let (intent, ttl) = (intent(&asked.intent)?, duration(asked.ttl.as_ref())?);
    let after = asked.before.map(EntryId::new).transpose().map_err(bad)?;
    let max = asked.limit.unwrap_or(DEFAULT_PATHS).clamp(1, MAX_PATHS);
    // Every entry is put to policy: that may take a second, which nobody else should wait for.
    let service = api.service.clone();
    let work = move || service.who_can(&role, &intent, ttl, after.as_ref(), max);
    let found = tokio::task::spawn_blocking(work).await;
    let (paths, next) = found.map_err(|_| ServiceError::Unavailable("the question could not be answered".into()))??;
    Ok(Json(json!({ "paths": paths.iter().map(path).collect::<Vec<_>>(), "next": next })))
}

fn path(path: &Path) -> Value {
    json!({
        "workload": path.entry.spiffe_id.to_string(),
        "entry_id": path.entry.id,
        "selectors": path.entry.selectors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "node": path.node.as_ref().map(ToString::to_string),
        "parent_id": path.entry.parent_id.to_string(),
        "policies": path.policies,
        "max_ttl": format_duration(path.max_ttl),
        "hold": path.hold.as_ref().map(|h| h.id),
    })
}
