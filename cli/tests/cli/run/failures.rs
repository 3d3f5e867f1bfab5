//! What keeps CMD from running, and the exit status that says so. Nothing is left behind.

use crate::fake::{Fake, Script, finish};
use std::os::unix::fs::PermissionsExt;

/// CMD leaves this file when it runs.
const RAN: &str = "touch ran";

fn ran(fake: &Fake) -> bool {
    fake.dir().join("ran").exists()
}

#[tokio::test]
async fn a_command_that_is_not_there_gives_127() {
    let fake = Fake::start(Script::default()).await;
    for missing in ["no-such-command", "./no-such-command", "/etc/passwd/x", ""] {
        let finished = finish(fake.run(&[missing])).await;
        assert_eq!(finished.status, 127, "{missing}: {}", finished.stderr);
    }
    assert!(fake.seen().starts.is_empty(), "no task for nothing");
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_gives_126() {
    let fake = Fake::start(Script::default()).await;
    for (name, content, mode) in [("plain", "#!/bin/sh\n", 0o644), ("garbage", "\x01\x02\x03\x04", 0o755)] {
        let path = fake.dir().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let finished = finish(fake.run(&[path.to_str().unwrap()])).await;
        assert_eq!(finished.status, 126, "{name}: {}", finished.stderr);
    }
    assert_eq!(finish(fake.run(&["/tmp"])).await.status, 126, "a folder");
    // The one that looked executable had its task, and it is over.
    let seen = fake.seen();
    assert_eq!((seen.starts.len(), seen.revoked.len()), (1, 1));
}

#[tokio::test]
async fn without_an_agent_the_status_is_69() {
    let fake = Fake::start(Script::default()).await;
    let mut command = fake.shell(RAN);
    command.env("SPIFFE_ENDPOINT_SOCKET", "unix:///nowhere/agent.sock");
    let finished = finish(command).await;
    assert_eq!(finished.status, 69);
    assert!(finished.stderr.contains("/nowhere/agent.sock"), "{}", finished.stderr);
    assert!(!ran(&fake));
}

#[tokio::test]
async fn an_address_that_is_no_unix_socket_gives_78() {
    let fake = Fake::start(Script::default()).await;
    for bad in ["tcp://127.0.0.1:1", "unix://relative.sock", "/run/errand/agent.sock"] {
        let mut command = fake.shell(RAN);
        command.env("SPIFFE_ENDPOINT_SOCKET", bad);
        assert_eq!(finish(command).await.status, 78, "{bad}");
    }
    let mut command = fake.shell(RAN);
    command.env("SPIFFE_ENDPOINT_SOCKET", format!("unix:{}", fake.socket().display()));
    assert_eq!(finish(command).await.status, 0);
}

#[tokio::test]
async fn a_denied_grant_gives_77_and_says_what_the_server_said() {
    let mut script = Script::default();
    let refusal = ("access_denied".into(), "no policy permits it; ask the owner of orders-db".into(), 400);
    script.refusals.insert("orders-db/readonly".into(), refusal);
    let fake = Fake::start(script).await;
    let finished = finish(fake.shell(RAN)).await;
    assert_eq!(finished.status, 77);
    assert!(finished.stderr.contains("ask the owner of orders-db"), "{}", finished.stderr);
    assert!(!ran(&fake));
    assert_eq!(fake.seen().revoked.len(), 1, "the task is taken back");
}

#[tokio::test]
async fn another_refusal_gives_1() {
    let mut script = Script::default();
    script
        .refusals
        .insert("orders-db/readonly".into(), ("invalid_target".into(), "there is no such target".into(), 400));
    let fake = Fake::start(script).await;
    assert_eq!(finish(fake.shell(RAN)).await.status, 1);
    assert!(!ran(&fake));
}

#[tokio::test]
async fn an_approval_that_is_pending_gives_75() {
    let mut script = Script::default();
    let refusal = ("authorization_pending".into(), "approve it at https://example.org/approve/1".into(), 400);
    script.refusals.insert("orders-db/readonly".into(), refusal);
    let fake = Fake::start(script).await;
    assert_eq!(finish(fake.shell(RAN)).await.status, 75);
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_with_the_same_key() {
    let mut script = Script::default();
    script.refusals.insert("orders-db/readonly".into(), ("temporarily_unavailable".into(), "starting".into(), 503));
    let fake = Fake::start(script).await;
    assert_eq!(finish(fake.shell(RAN)).await.status, 69);
    let seen = fake.seen();
    assert!(seen.exchanges.len() > 1);
    assert!(seen.exchanges.iter().all(|(_, key, _)| key == &seen.exchanges[0].1));
}

#[tokio::test]
async fn a_server_that_shows_another_identity_gets_no_token() {
    for (server, status) in [("spiffe://example.org/dev/kim", 69), ("spiffe://example.org/spire/server", 0)] {
        let fake = Fake::start(Script { server_id: server.into(), ..Script::default() }).await;
        let finished = finish(fake.shell(RAN)).await;
        assert_eq!(finished.status, status, "{}", finished.stderr);
        assert_eq!(fake.seen().exchanges.is_empty(), status != 0);
    }
}

#[tokio::test]
async fn a_root_that_the_agent_refuses_never_executes() {
    let fake = Fake::start(Script { refuse_root: Some("not a child".into()), ..Script::default() }).await;
    let finished = finish(fake.shell(RAN)).await;
    assert_eq!(finished.status, 125);
    assert!(finished.stderr.contains("not a child"), "{}", finished.stderr);
    assert!(!ran(&fake));
    assert_eq!(fake.seen().revoked.len(), 1);
}

#[tokio::test]
async fn a_command_that_is_not_what_was_measured_is_killed() {
    let fake = Fake::start(Script { refuse_executed: Some("another file".into()), ..Script::default() }).await;
    let finished = finish(fake.run(&["sleep", "1000"])).await;
    assert_eq!(finished.status, 125);
    let root = fake.seen().roots[0];
    assert!(!std::path::Path::new(&format!("/proc/{root}")).exists());
}

#[tokio::test]
async fn a_placement_that_cannot_be_carried_out_is_refused_and_named() {
    let mut script = Script::default();
    let credential = serde_json::json!({
        "kind": "aws", "revocability": "ttl_only",
        "placement": [{ "type": "loopback_http", "variable": "A", "token_file_variable": "B", "body": { "X": "${key}" } }],
    });
    script.credentials.insert("lake/deploy".into(), credential);
    let fake = Fake::start(script).await;
    let finished = finish(fake.errand(&["run", "--grant", "lake/deploy", "--", "true"])).await;
    assert_eq!(finished.status, 125);
    assert!(finished.stderr.contains("for lake/deploy serves the field `key`"), "{}", finished.stderr);
}

#[tokio::test]
async fn bad_usage_gives_2() {
    let fake = Fake::start(Script::default()).await;
    for bad in [
        &["run", "--grant", "orders-db", "--", "true"][..],
        &["run", "--grant", "orders-db/readonly"],
        &["run", "--grant", "orders-db/readonly", "--ttl", "15", "--", "true"],
        &["run", "--grant", "orders-db/readonly", "--ttl", "0s", "--", "true"],
        &["run", "--grant", "orders-db/readonly", "--keep-env", "A=B", "--", "true"],
    ] {
        assert_eq!(finish(fake.errand(bad)).await.status, 2, "{bad:?}");
    }
    assert_eq!(finish(fake.run(&["true"])).await.status, 0);
}
