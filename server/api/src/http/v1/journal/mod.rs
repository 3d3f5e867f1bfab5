//! `/v1/journal`: the record, searched and followed. Exports are `export`'s, erasures `redact`'s.

mod checkpoint;
mod export;
mod redact;

use super::{
    query::{List, Params},
    views,
};
use crate::{Api, problem::Problem};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use proto_types::Position;
use serde::Deserialize;
use serde_json::{Value, json};
use server_service::ServiceError;

/// Records read at once.
const BATCH: u32 = 500;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/journal", get(search))
        .route("/v1/journal/root", get(root))
        .route("/v1/journal/tail", get(tail))
        .route("/v1/journal/export", get(export::export))
        .route("/v1/journal/checkpoint", get(checkpoint::checkpoint))
        .route("/v1/journal/checkpoint/cosignatures", post(checkpoint::cosignatures))
        .route("/v1/journal/checkpoints", get(checkpoint::checkpoints))
        .route("/v1/journal/consistency", get(checkpoint::consistency))
        .route("/v1/journal/{position}/inclusion", get(checkpoint::inclusion))
        .route("/v1/journal/redact", post(redact::redact))
        .route("/v1/journal/{position}", get(show))
}

fn position(text: &str) -> Result<Position, Problem> {
    text.parse().map(Position).map_err(|_| Problem::invalid("a position is a whole number, from 0"))
}

async fn search(State(api): State<Api>, Params(list): Params<List>) -> Result<Json<Value>, Problem> {
    let before = list.before.as_deref().map(position).transpose()?;
    let found = api.service.ports().archive.search(&list.filter()?, before, list.limit()).await?;
    let next = (found.len() == list.limit() as usize).then(|| found.last().map(|(p, _)| *p)).flatten();
    let records: Vec<_> = found.iter().map(|(p, r)| views::record(*p, r)).collect();
    Ok(Json(json!({ "records": records, "next": next.map(|p| p.0.to_string()) })))
}

async fn show(State(api): State<Api>, Path(text): Path<String>) -> Result<Json<Value>, Problem> {
    let at = position(&text)?;
    let found = api.service.ports().feed.from(at, 1).await?;
    let found = found.iter().find(|(p, _)| *p == at);
    found
        .map(|(p, r)| Json(views::record(*p, r)))
        .ok_or_else(|| Problem(ServiceError::NotFound { what: "record", id: at.0.to_string() }))
}

/// `{size, root, start}`: the newest root written down, and the position of the oldest record that is kept.
async fn root(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let archive = &api.service.ports().archive;
    let start = archive.pruned().await?.size();
    Ok(Json(match archive.root().await? {
        Some(r) => json!({ "size": r.size, "root": hex::encode(r.root), "start": start }),
        None => json!({ "size": 0, "root": null, "start": start }),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    follow: bool,
}

/// Records as JSON lines from a position on; with `follow`, then every new one until the caller hangs up.
async fn tail(State(api): State<Api>, Params(tail): Params<Tail>) -> Result<Response, Problem> {
    // What can be refused is, while there is still a status to say it with.
    api.service.ports().feed.from(Position(tail.from), 1).await?;
    let size = api.service.ports().feed.size();
    let lines = stream::try_unfold((api, size, tail.from), move |(api, mut size, at)| async move {
        loop {
            let found = api.service.ports().feed.from(Position(at), BATCH).await.map_err(std::io::Error::other)?;
            if let Some((last, _)) = found.last() {
                let next = last.0 + 1;
                let text: String = found.iter().map(|(p, r)| format!("{}\n", views::record(*p, r))).collect();
                return Ok::<_, std::io::Error>(Some((text, (api, size, next))));
            }
            if !tail.follow || size.changed().await.is_err() {
                return Ok(None);
            }
        }
    });
    Ok(ndjson(Body::from_stream(lines)))
}

fn ndjson(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
