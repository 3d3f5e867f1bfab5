//! `/v1/holds`: stops on workloads, users, targets, nodes or everything, made and released by operators.

use super::Operator;
use crate::{Api, problem::Problem};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use proto_types::{Hold, HoldId, hold::Scope};
use serde::Deserialize;
use serde_json::{Value, json};
use server_service::ServiceError;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/holds", get(list).post(create))
        .route("/v1/holds/{id}", get(show))
        .route("/v1/holds/{id}/release", post(release))
}

/// What is to be stopped: exactly one of the five.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    workload: Option<String>,
    user: Option<String>,
    target: Option<String>,
    node: Option<String>,
    #[serde(default)]
    all: bool,
    reason: String,
}

impl New {
    fn scope(&self) -> Result<Scope, Problem> {
        let named =
            [("workload", &self.workload), ("user", &self.user), ("target", &self.target), ("node", &self.node)];
        let mut scopes: Vec<(&str, &str)> = named.iter().filter_map(|(k, v)| Some((*k, v.as_deref()?))).collect();
        scopes.extend(self.all.then_some(("all", "")));
        match scopes[..] {
            [(kind, value)] => Ok(Scope::parse(kind, value).map_err(ServiceError::from)?),
            _ => Err(Problem::invalid("a hold names exactly one of workload, user, target, node and all")),
        }
    }
}

fn id(text: &str) -> Result<HoldId, Problem> {
    text.parse().map_err(|e: proto_types::IdError| Problem::invalid(e.to_string()))
}

/// `hold {id, matches {kind, value}, reason, operator, created_at}`.
fn view(hold: &Hold) -> Value {
    let value = Some(hold.scope.value()).filter(|v| !v.is_empty());
    json!({
        "id": hold.id,
        "matches": { "kind": hold.scope.kind(), "value": value },
        "reason": hold.reason,
        "operator": hold.operator,
        "created_at": hold.created_at,
    })
}

async fn list(State(api): State<Api>) -> Json<Value> {
    let holds: Vec<_> = api.service.read(|s| s.holds.iter().map(|h| view(h)).collect());
    Json(json!({ "holds": holds }))
}

async fn show(State(api): State<Api>, Path(text): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(view(api.service.hold(id(&text)?)?.as_ref())))
}

async fn create(
    State(api): State<Api>,
    Extension(Operator(operator)): Extension<Operator>,
    Json(new): Json<New>,
) -> Result<Json<Value>, Problem> {
    let made = api.service.hold_create(new.scope()?, &new.reason, operator).await?;
    let mut shown = view(&made.hold);
    shown["ended_tasks"] = json!(made.ended);
    shown["ending_tasks"] = json!(made.ending);
    shown["open_leases"] = json!(made.leases);
    Ok(Json(shown))
}

async fn release(
    State(api): State<Api>,
    Path(text): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(view(api.service.hold_release(id(&text)?, operator).await?.as_ref())))
}
