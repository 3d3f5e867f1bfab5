//! `/v1/targets`: downstream systems and their roles.

use super::Operator;
use crate::{Api, problem::Problem};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use server_service::{ServiceError, TargetEntry, TargetText};

/// Longest text of one `apply`, bytes.
const MAX_TEXT: usize = 256 * 1024;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/targets", get(list).post(apply))
        .route("/v1/targets/{name}", get(show).delete(remove))
        .route("/v1/targets/{name}/check", post(check))
        .route("/v1/targets/{name}/setup", get(setup))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apply {
    /// TOML with `[[target]]` tables.
    text: String,
}

fn summary(t: &TargetEntry) -> Value {
    let (roles, problems) = match &t.target {
        Ok(target) => (target.roles(), vec![]),
        Err(problems) => (vec![], problems.iter().map(|p| p.problem.clone()).collect()),
    };
    json!({
        "name": t.doc.name,
        "kind": t.doc.kind,
        "origin": t.doc.origin,
        "revision": t.doc.revision,
        "roles": roles,
        "retired": t.doc.retired,
        "problems": problems,
    })
}

async fn list(State(api): State<Api>) -> Json<Value> {
    let targets: Vec<_> = api.service.read(|s| s.targets.values().map(summary).collect());
    Json(json!({ "targets": targets }))
}

async fn show(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let found = api.service.read(|s| {
        s.targets.get(&name).map(|t| {
            let mut out = summary(t);
            out["body"] = t.doc.body.clone();
            out
        })
    });
    found.map(Json).ok_or_else(|| unknown(&name))
}

fn unknown(name: &str) -> Problem {
    Problem(ServiceError::NotFound { what: "target", id: proto_types::id::excerpt(name) })
}

async fn apply(
    State(api): State<Api>,
    Extension(Operator(operator)): Extension<Operator>,
    Json(body): Json<Apply>,
) -> Result<Json<Value>, Problem> {
    if body.text.len() > MAX_TEXT {
        return Err(Problem::invalid("targets are declared in at most 262144 bytes; apply several files"));
    }
    let applied = api.service.targets_apply(TargetText { text: &body.text, origin: "applied" }, operator).await?;
    let applied: Vec<_> = applied.iter().map(|a| json!({ "name": a.name, "change": a.change })).collect();
    Ok(Json(json!({ "applied": applied })))
}

async fn remove(
    State(api): State<Api>,
    Path(name): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<StatusCode, Problem> {
    api.service.target_delete(&name, operator).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "findings": api.service.target_check(&name).await? })))
}

async fn setup(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let (setup, by_hand) = api.admin.target_texts(&name).ok_or_else(|| unknown(&name))?;
    Ok(Json(json!({ "setup": setup, "by_hand": by_hand })))
}
