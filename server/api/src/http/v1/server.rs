//! `/v1/server`: what this server is. `/v1/who`: from a credential back to everything about it.

use super::views;
use crate::{Api, problem::Problem};
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use proto_types::{Lease, LeaseState};
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/server", get(about)).route("/v1/who/{credential}", get(who))
}

async fn about(State(api): State<Api>) -> Json<Value> {
    let service = &api.service;
    let (settings, meta) = (service.settings(), service.meta());
    let (entries, agents, tasks) = service.read(|s| (s.entries.len(), s.nodes.len(), s.tasks.len()));
    let size = *service.ports().feed.size().borrow();
    let stuck = service.read(|s| s.leases.values().filter(|l| stuck(l)).count());
    let space = api.admin.space().map(|(used, free)| json!({ "used_bytes": used, "free_bytes": free }));
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
        "clock": { "now": service.now(), "newest_record": service.ports().snapshots.meta().clock_high_water },
        "space": space,
        "stuck_leases": stuck,
        "not_ready": super::super::health::problems(&api).await,
    }))
}

/// A credential that its target does not let go: the third try failed, too.
fn stuck(lease: &Lease) -> bool {
    lease.state == LeaseState::Revoking && lease.tries >= 3
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
