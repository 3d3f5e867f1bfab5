//! `/v1/tasks`: what runs, what ran, and ending it by hand.

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
use proto_types::{EndReason, Lease, Task, TaskId};
use serde_json::{Value, json};
use server_core::ports::Filter;
use server_service::ServiceError;
use std::sync::Arc;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/tasks", get(list))
        .route("/v1/tasks/{id}", get(show))
        .route("/v1/tasks/{id}/complete", post(complete))
        .route("/v1/tasks/{id}/revoke", post(revoke))
}

fn id(text: &str) -> Result<TaskId, Problem> {
    text.parse().map_err(|e: proto_types::IdError| Problem::invalid(e.to_string()))
}

async fn list(State(api): State<Api>, Params(list): Params<List>) -> Result<Json<Value>, Problem> {
    let before = list.before.as_deref().map(id).transpose()?;
    let found = api.service.ports().archive.tasks(&list.filter()?, before, list.limit()).await?;
    let next = (found.len() == list.limit() as usize).then(|| found.last().map(|t| t.id)).flatten();
    let tasks: Vec<_> = found.iter().map(|t| views::task(t, &open_leases(&api, t.id))).collect();
    Ok(Json(json!({ "tasks": tasks, "next": next })))
}

fn open_leases(api: &Api, id: TaskId) -> Vec<Arc<Lease>> {
    api.service.read(|s| s.leases_of(id))
}

async fn show(State(api): State<Api>, Path(text): Path<String>) -> Result<Json<Value>, Problem> {
    whole(&api, id(&text)?).await
}

/// A task with all its leases, those that are over too.
async fn whole(api: &Api, id: TaskId) -> Result<Json<Value>, Problem> {
    let task: Task = api.service.task(id).await?;
    let filter = Filter { task: Some(id), ..Filter::default() };
    let mut leases = api.service.ports().archive.leases(&filter, None, 200).await?;
    leases.reverse();
    let open = open_leases(api, id);
    // What is in memory is newer: tries and the last error are nowhere else.
    let leases: Vec<_> = leases
        .into_iter()
        .map(|l| open.iter().find(|o| o.id == l.id).cloned().unwrap_or_else(|| Arc::new(l)))
        .collect();
    Ok(Json(views::task(&task, &leases)))
}

async fn complete(
    State(api): State<Api>,
    Path(text): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<Json<Value>, Problem> {
    end(&api, id(&text)?, EndReason::Completed, operator).await
}

async fn revoke(
    State(api): State<Api>,
    Path(text): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<Json<Value>, Problem> {
    end(&api, id(&text)?, EndReason::Revoked, operator).await
}

async fn end(api: &Api, id: TaskId, reason: EndReason, operator: Option<String>) -> Result<Json<Value>, Problem> {
    match api.service.task_end(id, reason, operator).await {
        // Over already: the caller sees how it ended.
        Ok(_) | Err(ServiceError::TaskOver) => whole(api, id).await,
        Err(e) => Err(e.into()),
    }
}
