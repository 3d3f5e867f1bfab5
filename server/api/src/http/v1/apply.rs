//! `/v1/apply`: a directory of targets, policies and entries, compared with what is, and made so.

use super::Operator;
use crate::{Api, problem::Problem};
use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use proto_types::Entry;
use serde::Deserialize;
use serde_json::{Value, json};
use server_service::Wanted;
use std::collections::BTreeMap;

/// Largest directory, bytes of JSON: some ten thousand entries.
const MAX_BODY: usize = 16 * 1024 * 1024;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/apply", post(apply)).layer(DefaultBodyLimit::max(MAX_BODY))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    /// TOML with `[[target]]` tables.
    #[serde(default)]
    targets: String,
    /// Cedar text by name.
    #[serde(default)]
    policies: BTreeMap<String, String>,
    #[serde(default)]
    entries: Vec<Entry>,
    #[serde(default)]
    prune: bool,
    #[serde(default)]
    dry_run: bool,
}

async fn apply(
    State(api): State<Api>,
    Extension(Operator(operator)): Extension<Operator>,
    Json(directory): Json<Directory>,
) -> Result<Json<Value>, Problem> {
    let Directory { targets, policies, entries, prune, dry_run } = directory;
    let wanted = Wanted { targets, policies, entries, prune };
    let plan = match dry_run {
        true => api.service.apply_plan(&wanted)?,
        false => api.service.apply(&wanted, operator).await?,
    };
    Ok(Json(json!({ "applied": !dry_run, "changes": plan.changes, "unchanged": plan.unchanged })))
}
