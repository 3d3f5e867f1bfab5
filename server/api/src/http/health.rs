//! `/livez`, `/readyz`, `/metrics`: on loopback; no identity and no secret in them. What ready means is decided here, for
//! gRPC health too.

use crate::Api;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use proto_types::KeyUse;

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(api)
}

async fn ready(State(api): State<Api>) -> Response {
    let wrong = problems(&api).await;
    if wrong.is_empty() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, wrong.join("\n") + "\n").into_response()
    }
}

/// Ready, with no problem, when the store answers and can be written, the clock can be believed and every use has a key to sign with.
pub(crate) async fn problems(api: &Api) -> Vec<String> {
    let ports = api.service.ports();
    let mut wrong = Vec::new();
    if let Err(error) = ports.archive.root().await {
        wrong.push(format!("store: {error}"));
    }
    if let Some(why) = ports.ledger.trouble() {
        wrong.push(format!("journal: {why}"));
    }
    for key_use in KeyUse::ALL {
        if key_use != KeyUse::X509 && ports.authorities.public_keys(key_use).is_empty() {
            wrong.push(format!("authority: no {} key", key_use.as_str()));
        }
    }
    if ports.authorities.ca_not_after() <= api.service.now() {
        wrong.push("authority: no usable CA certificate".into());
    }
    if let Some(doubt) = api.service.clock_in_doubt() {
        wrong.push(format!("clock: {doubt}"));
    }
    wrong
}

async fn metrics(State(api): State<Api>) -> Response {
    let text = api.metrics.text(&api.service);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
