//! `/v1/server`: what this server is. `/v1/who`: from a credential back to everything about it.

use super::views;
use crate::{Api, problem::Problem};
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/server", get(about)).route("/v1/who/{credential}", get(who))
}

async fn about(State(api): State<Api>) -> Json<Value> {
    let service = &api.service;
    let (settings, meta) = (service.settings(), service.meta());
    let (entries, agents, tasks) = service.read(|s| (s.entries.len(), s.nodes.len(), s.tasks.len()));
    let size = *service.ports().feed.size().borrow();
    Json(json!({
        "trust_domain": settings.trust_domain.to_string(),
        "issuer": settings.issuer,
        "version": env!("CARGO_PKG_VERSION"),
        "store_id": meta.store_id,
        "dev": meta.dev,
        "journal_size": size,
        "entries": entries,
        "agents": agents,
        "tasks": tasks,
        "sinks": service.sink_views(),
    }))
}

async fn who(State(api): State<Api>, Path(credential): Path<String>) -> Result<Json<Value>, Problem> {
    let who = api.service.who(&credential).await?;
    let leases: Vec<_> = who.lease.iter().cloned().map(std::sync::Arc::new).collect();
    Ok(Json(json!({
        "credential": credential,
        "lease": who.lease.as_ref().map(views::lease),
        "task": who.task.as_ref().map(|t| views::task(t, &leases)),
        "records": who.records.iter().map(|(p, r)| views::record(*p, r)).collect::<Vec<_>>(),
    })))
}
