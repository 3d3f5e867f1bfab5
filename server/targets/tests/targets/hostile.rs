//! Bad input as data, each group beside a nearly identical input that is accepted.

use crate::world::{World, exec};
use proto_types::{CredentialName, id::parse_spiffe_id};
use serde_json::json;
use server_core::ports::IssueError;

/// K01, K02: bytes that mean something to SQL, to psql or to a pattern.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\"; DROP ROLE postgres;--",
        "'; DROP ROLE postgres;--",
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "$$",
        "$1",
        "%",
        "%I",
        "_",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "a\0b",
        "\u{202e}",
        "é",
        "\u{1f600}",
        "",
        " ",
    ]
    .map(str::to_string)
    .into();
    texts.extend([63, 64, 10_000].map(|n| "x".repeat(n)));
    texts.extend([63, 64, 10_000].map(|n| "'".repeat(n)));
    texts
}

#[tokio::test]
async fn whatever_the_users_name_is_it_stays_inside_the_comment() {
    let w = World::new().await;
    for text in hostile() {
        let mut request = w.subject("readonly").request();
        request.user = Some(text.clone());
        let held = w.issue_as(request).await.unwrap_or_else(|e| panic!("{text:?}: {e}"));
        let comment: String = w
            .pg
            .ask(&format!("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{}'", held.user()))
            .await;
        assert!(comment.starts_with("errand lease task=") && !comment.contains(char::is_control), "{comment:?}");
        assert!(comment.chars().count() < 500);
        w.end(&held).await;
    }
    assert_eq!(w.roles_named("postgres").await, 1);
}

#[tokio::test]
async fn the_longest_workload_id_is_accepted() {
    let w = World::new().await;
    let mut request = w.subject("readonly").request();
    let id = format!("spiffe://example.org/{}", "a/".repeat(1012) + "aa");
    request.workload = parse_spiffe_id(&id).unwrap();
    w.end(&w.issue_as(request).await.unwrap()).await;
}

#[tokio::test]
async fn a_name_that_this_store_does_not_give_reaches_no_statement() {
    let w = World::new().await;
    let good = w.subject("readonly").request().name;
    for text in hostile().into_iter().chain(["errand_k3m9x_\"; DROP ROLE x;--".into(), format!("{}x", good.as_str())]) {
        let mut request = w.subject("readonly").request();
        request.name = serde_json::from_value::<CredentialName>(json!(text)).unwrap();
        let error = w.issue_as(request.clone()).await.err();
        assert!(matches!(error, Some(IssueError::Refused { .. })), "{text:?}: {error:?}");
        assert!(w.target.revoke(&w.subject("readonly").lease(&request, json!(null))).await.is_err(), "{text:?}");
    }
    w.issue("readonly").await;
}

#[tokio::test]
async fn a_request_does_not_choose_where_it_leads() {
    let w = World::new().await;
    for params in [
        json!({"database": "postgres"}),
        json!({"host": "127.0.0.2"}),
        json!({"type": "urn:errand:role", "creation_statements": ["CREATE ROLE x; DROP ROLE y"]}),
        json!({"connection_limit": 1000}),
    ] {
        let mut request = w.subject("readonly").request();
        request.params = params.clone();
        let error = w.issue_as(request).await.err();
        assert!(matches!(error, Some(IssueError::Refused { .. })), "{params}");
    }
    for params in [json!(null), json!({}), json!({"type": "urn:errand:role"})] {
        let mut request = w.subject("readonly").request();
        request.params = params;
        w.issue_as(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_handle_that_is_not_one_of_ours_is_as_good_as_none() {
    let w = World::new().await;
    for handle in [
        json!(null),
        json!("x"),
        json!({"oid": "1; DROP"}),
        json!({"oid": -1}),
        json!({"oid": 0}),
        json!({"oid": i64::MAX}),
        json!([1]),
    ] {
        let mut held = w.issue("readonly").await;
        held.lease.handle = handle.clone().into();
        let ended = w.target.revoke(&held.lease).await;
        assert!(ended.is_ok(), "{handle}: {ended:?}");
    }
}

#[tokio::test]
async fn many_credentials_come_and_go_at_once_and_leave_no_trace() {
    let w = World::new().await;
    let acl = "SELECT coalesce(pg_column_size(relacl), 0) FROM pg_class WHERE relname = 'orders'";
    let before: i32 = w.pg.ask(acl).await;
    let one = async || {
        let role = "writer";
        let held = w.issue(role).await;
        exec(&mut w.log_in(&held).await.unwrap(), "SELECT * FROM orders").await.unwrap();
        w.target.revoke(&held.lease).await.unwrap();
    };
    let eight = async || {
        for _ in 0..4 {
            one().await;
        }
    };
    tokio::join!(eight(), eight(), eight(), eight(), eight(), eight());
    assert_eq!(w.pg.ask::<i32>(acl).await, before, "membership only: the table's own list of rights does not grow");
    assert_eq!(w.pg.ask::<i64>("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'errand\\_k3m9x%'").await, 0);
}
