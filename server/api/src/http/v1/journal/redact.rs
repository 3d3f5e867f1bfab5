//! `POST /v1/journal/redact`: an operator erases people's names and words. What may go is the service's to decide.

use crate::{Api, http::v1::Operator, problem::Problem};
use axum::{Extension, Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use server_core::journal::PrivateField;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    positions: Vec<u64>,
    fields: Vec<String>,
    reason: String,
}

/// `{redacted: [{position, field}], position}`: what was erased, and the record that says so.
pub(super) async fn redact(
    State(api): State<Api>,
    Extension(Operator(operator)): Extension<Operator>,
    Json(asked): Json<Asked>,
) -> Result<Json<Value>, Problem> {
    let field = |name: &String| {
        PrivateField::parse(name).ok_or_else(|| Problem::invalid("what can be redacted is `user` and `intent`"))
    };
    let mut fields = asked.fields.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    fields.sort_unstable();
    fields.dedup();
    let done = api.service.redact(&asked.positions, &fields, &asked.reason, operator).await?;
    let values: Vec<_> =
        done.values.iter().map(|v| json!({ "position": v.position.0, "field": v.field.as_str() })).collect();
    Ok(Json(json!({ "redacted": values, "position": done.record.0 })))
}
