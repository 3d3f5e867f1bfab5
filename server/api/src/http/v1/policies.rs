//! `/v1/policies`: the Cedar documents in force.

use super::Operator;
use crate::{Api, problem::Problem};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/policies", get(list).post(apply))
        .route("/v1/policies/check", post(check))
        .route("/v1/policies/{id}", delete(remove))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Doc {
    id: String,
    /// Cedar source text.
    text: String,
}

async fn list(State(api): State<Api>) -> Json<Value> {
    let docs: Vec<_> = api.service.read(|s| s.policies.values().cloned().collect());
    Json(json!({ "policies": docs }))
}

async fn apply(
    State(api): State<Api>,
    Extension(Operator(operator)): Extension<Operator>,
    Json(doc): Json<Doc>,
) -> Result<Json<Value>, Problem> {
    let (applied, change) = api.service.policy_apply(&doc.id, &doc.text, operator).await?;
    Ok(Json(json!({ "id": applied.id, "revision": applied.revision, "change": change })))
}

async fn check(State(api): State<Api>, Json(doc): Json<Doc>) -> Json<Value> {
    let problems: Vec<_> = api
        .service
        .policy_problems(&doc.id, &doc.text)
        .into_iter()
        .map(|p| json!({ "policy": p.policy, "line": p.line, "problem": p.problem }))
        .collect();
    Json(json!({ "problems": problems }))
}

async fn remove(
    State(api): State<Api>,
    Path(id): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<StatusCode, Problem> {
    api.service.policy_delete(&id, operator).await?;
    Ok(StatusCode::NO_CONTENT)
}
