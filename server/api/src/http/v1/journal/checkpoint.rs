//! What the journal says of itself: signed checkpoints, the signatures of witnesses on them, and proofs.
//!
//! Nothing here is believed for being answered: whoever asks verifies notes and proofs.

use super::{super::query::Params, position};
use crate::{Api, problem::Problem};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use server_core::journal::{Hash, SignedNote};
use server_service::ServiceError;

/// Checkpoints in one answer.
const MOST: u32 = 1000;

fn missing(what: &'static str, id: impl ToString) -> Problem {
    Problem(ServiceError::NotFound { what, id: id.to_string() })
}

/// The checkpoint over everything there is: written and signed now.
pub(super) async fn newest(api: &Api) -> Result<SignedNote, Problem> {
    api.admin.write_root().await?;
    let note = api.service.ports().archive.checkpoint().await?;
    note.ok_or_else(|| missing("journal checkpoint", "newest"))
}

/// `{checkpoint, key}`: the newest note, and the key that verifies it.
pub(super) async fn checkpoint(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let note = newest(&api).await?;
    let key = api.admin.journal_key().map(|key| key.to_string());
    Ok(Json(json!({ "checkpoint": note.to_string(), "key": key })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

/// `{checkpoints}`: those over more than `after` records, smallest first; none when there are no more.
pub(super) async fn checkpoints(State(api): State<Api>, Params(asked): Params<After>) -> Result<Json<Value>, Problem> {
    let notes = api.service.ports().archive.checkpoints(asked.after, MOST).await?;
    let notes: Vec<_> = notes.iter().map(SignedNote::to_string).collect();
    Ok(Json(json!({ "checkpoints": notes })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cosigned {
    checkpoint: String,
}

/// Keeps what witnesses signed under a checkpoint of this journal, and answers the note as it now stands.
pub(super) async fn cosignatures(State(api): State<Api>, Json(asked): Json<Cosigned>) -> Result<Json<Value>, Problem> {
    let note: SignedNote = asked.checkpoint.parse().map_err(|e| Problem::invalid(format!("the checkpoint: {e}")))?;
    match api.admin.keep_cosignatures(note).await? {
        Some(kept) => Ok(Json(json!({ "checkpoint": kept.to_string() }))),
        None => Err(Problem(ServiceError::Conflict(
            "this is no checkpoint that this journal signed; cosign what `errand journal checkpoint` prints".into(),
        ))),
    }
}

fn hexes(path: &[Hash]) -> Vec<String> {
    path.iter().map(hex::encode).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Size {
    size: u64,
}

/// `{path}`: from the record's leaf to the root over the first `size` records.
pub(super) async fn inclusion(
    State(api): State<Api>,
    Path(at): Path<String>,
    Params(asked): Params<Size>,
) -> Result<Json<Value>, Problem> {
    let at = position(&at)?;
    let path = api.service.ports().archive.inclusion(at, asked.size).await?;
    let path = path.ok_or_else(|| missing("record under a root over so many", at.0))?;
    Ok(Json(json!({ "path": hexes(&path) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    from: u64,
    to: u64,
}

/// `{path}`: that the tree over `to` records continues the one over `from`.
pub(super) async fn consistency(State(api): State<Api>, Params(asked): Params<Sizes>) -> Result<Json<Value>, Problem> {
    let path = api.service.ports().archive.consistency(asked.from, asked.to).await?;
    let path = path.ok_or_else(|| missing("journal root over so many", asked.to))?;
    Ok(Json(json!({ "path": hexes(&path) })))
}
