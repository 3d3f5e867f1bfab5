//! Stopping things: `errand hold`, and revoking tasks by what they match.

use super::admin::{Fake, Shared};
use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the verbs ask of a server.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/holds", post(create_hold).get(|| async { Json(json!({"holds": [one_hold()]})) }))
        .route("/v1/holds/{id}/release", post(|| async { Json(one_hold()) }))
}

fn one_hold() -> Value {
    json!({"id": "h-1", "matches": {"kind": "target", "value": "orders-db"}, "reason": "restoring",
        "operator": "kim", "created_at": "2026-11-21T08:00:00Z"})
}

/// Answers what it was asked, so that a test sees it.
async fn create_hold(Json(body): Json<Value>) -> Json<Value> {
    let mut made = one_hold();
    (made["ended_tasks"], made["ending_tasks"], made["asked"]) = (json!(2), json!(1), body);
    Json(made)
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_every_task_is_said_with_all_and_not_by_saying_nothing() {
    let fake = Fake::start().await;
    assert_eq!(fake.run(&["task", "revoke", "--yes"]).status, 2);
    let ran = fake.run(&["task", "revoke", "--all", "--yes", "--output", "json"]).ok();
    assert_eq!(ran.json()["tasks"].as_array().unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_names_one_thing_and_a_reason_and_everything_only_with_yes() {
    let fake = Fake::start().await;
    for bad in [
        &["hold", "create", "--reason", "x"][..],
        &["hold", "create", "--target", "orders-db"],
        &["hold", "create", "--target", "orders-db", "--reason", " "],
        &["hold", "create", "--target", "orders-db", "--user", "kim", "--reason", "x"],
        &["hold", "create", "--workload", "spiffe://example.org", "--reason", "x"],
        &["hold", "create", "--all", "--reason", "x"],
    ] {
        assert_eq!(fake.run(bad).status, 2, "{bad:?}");
    }
    assert!(fake.asked().is_empty(), "nothing was asked of the server");
    let create = ["hold", "create", "--reason", "x", "--output", "json"];
    for (scope, asked) in [
        (&["--target", "orders-db"][..], json!({"target": "orders-db", "reason": "x"})),
        (&["--workload", "spiffe://example.org/*"], json!({"workload": "spiffe://example.org/*", "reason": "x"})),
        (&["--all", "--yes"], json!({"all": true, "reason": "x"})),
    ] {
        assert_eq!(fake.run(&[&create[..], scope].concat()).ok().json()["asked"], asked);
    }
    let told = fake.run(&["hold", "create", "--target", "orders-db", "--reason", "x"]).ok();
    assert!(told.stderr.starts_with("h-1: target orders-db on hold, 2 tasks ended, 1 not yet"), "{}", told.stderr);
    assert!(fake.run(&["hold", "list"]).ok().stdout.contains("target orders-db"));
    fake.run(&["hold", "release", "h-1"]).ok();
}
