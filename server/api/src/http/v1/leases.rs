//! `/v1/leases`: credentials alive in targets.

use super::{
    Operator,
    query::{List, Params},
    views,
};
use crate::{Api, problem::Problem};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use proto_types::LeaseId;
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/leases", get(list))
        .route("/v1/leases/{id}", get(show))
        .route("/v1/leases/{id}/revoke", post(revoke))
}

fn id(text: &str) -> Result<LeaseId, Problem> {
    text.parse().map_err(|e: proto_types::IdError| Problem::invalid(e.to_string()))
}

async fn list(State(api): State<Api>, Params(list): Params<List>) -> Result<Json<Value>, Problem> {
    let before = list.before.as_deref().map(id).transpose()?;
    let found = api.service.ports().archive.leases(&list.filter()?, before, list.limit()).await?;
    let next = (found.len() == list.limit() as usize).then(|| found.last().map(|l| l.id)).flatten();
    let leases: Vec<_> = found
        .iter()
        .map(|l| match api.service.read(|s| s.leases.get(&l.id).cloned()) {
            Some(newer) => views::lease(&newer),
            None => views::lease(l),
        })
        .collect();
    Ok(Json(json!({ "leases": leases, "next": next })))
}

async fn show(State(api): State<Api>, Path(text): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(views::lease(&api.service.lease(id(&text)?).await?)))
}

async fn revoke(
    State(api): State<Api>,
    Path(text): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(views::lease(&api.service.lease_revoke(id(&text)?, operator).await?)))
}
