//! `/v1/authorities`: the signing keys' public halves, and rotating them by hand.

use super::Operator;
use crate::{Api, problem::Problem};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use proto_types::KeyUse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Params;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/authorities", get(list))
        .route("/v1/authorities/{what}/prepare", post(prepare))
        .route("/v1/authorities/{what}/activate", post(activate))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    r#use: Option<String>,
}

fn key_use(text: &str) -> Result<KeyUse, Problem> {
    // The command line says `jwt` for what the standard calls `jwt-svid`.
    let wanted = if text == "jwt" { "jwt-svid" } else { text };
    let found = KeyUse::ALL.into_iter().find(|u| u.as_str() == wanted);
    found.ok_or_else(|| Problem::invalid("a key's use is x509, jwt-svid, oauth, journal or ssh"))
}

async fn list(State(api): State<Api>, Params(which): Params<Which>) -> Result<Json<Value>, Problem> {
    let wanted = which.r#use.as_deref().map(key_use).transpose()?;
    Ok(Json(json!({ "authorities": api.admin.authorities(wanted) })))
}

async fn prepare(
    State(api): State<Api>,
    Path(what): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(api.admin.prepare(key_use(&what)?, operator).await?)))
}

async fn activate(
    State(api): State<Api>,
    Path(what): Path<String>,
    Extension(Operator(operator)): Extension<Operator>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(api.admin.activate(&what, operator).await?)))
}
