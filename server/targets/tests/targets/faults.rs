//! Targets that are down, go away in the middle, or do not speak PostgreSQL.

use crate::world::{World, build, exec};
use proto_types::{Clock as _, SystemClock};
use server_core::ports::{IssueError, RevokeError};
use std::time::Duration;
use testkit::target_law::{Subject, durable};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

#[tokio::test]
async fn a_target_that_is_down_refuses_at_once_and_is_revoked_when_it_is_back() {
    let mut w = World::new().await;
    let held = w.issue("readonly").await;
    let asked = w.subject("readonly").request();
    w.pg.stop();
    let prompt = Duration::from_secs(3);
    let issue = tokio::time::timeout(prompt, w.issue_as(asked)).await.expect("prompt").err();
    assert!(matches!(issue, Some(IssueError::Refused { .. })), "{issue:?}");
    let revoke = tokio::time::timeout(prompt, w.target.revoke(&held.lease)).await.expect("prompt");
    assert!(matches!(revoke, Err(RevokeError::Again { .. })), "{revoke:?}");
    assert!(w.target.scan("errand_", None).await.is_err());
    assert_eq!(w.findings().await[0].severity, "error");
    w.pg.resume().await;
    w.end(&held).await;
}

#[tokio::test]
async fn connections_that_died_with_a_restart_are_replaced_unseen() {
    let mut w = World::new().await;
    let held = w.issue("readonly").await;
    w.pg.stop();
    w.pg.resume().await;
    let again = w.issue("readonly").await;
    w.end(&held).await;
    w.end(&again).await;
}

#[tokio::test]
async fn a_lock_that_somebody_holds_delays_the_end_and_does_not_prevent_it() {
    let w = World::new().await;
    w.pg.sql("GRANT CREATE ON SCHEMA public TO orders_writer").await;
    let held = w.issue("writer").await;
    exec(&mut w.log_in(&held).await.unwrap(), "CREATE TABLE mine(a int)").await.unwrap();
    let mut somebody = w.pg.admin().await;
    exec(&mut somebody, "BEGIN; LOCK TABLE mine").await.unwrap();
    let error = w.target.revoke(&held.lease).await.unwrap_err();
    assert!(matches!(error, RevokeError::Again { .. }), "{error}");
    assert!(w.log_in(&held).await.is_err(), "it is locked out all the same");
    exec(&mut somebody, "ROLLBACK").await.unwrap();
    w.end(&held).await;
}

#[tokio::test]
async fn rights_that_were_taken_away_need_a_person() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    w.pg.sql("ALTER ROLE errand NOCREATEROLE").await;
    let error = w.target.revoke(&held.lease).await.unwrap_err();
    assert!(matches!(error, RevokeError::NeedsHuman { .. }), "{error}");
    let refused = w.issue_as(w.subject("readonly").request()).await.err();
    assert!(matches!(&refused, Some(IssueError::Refused { why }) if why.contains("42501")), "{refused:?}");
    w.pg.sql("ALTER ROLE errand CREATEROLE").await;
    w.end(&held).await;
}

/// What a server that is not one answers with, before it closes.
const ANSWERS: [&[u8]; 6] = [
    b"",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    // AuthenticationOk with a length of a gigabyte.
    b"R\x3f\xff\xff\xff",
    // An error whose text never comes.
    b"E\x3f\xff\xff\xffSFATAL",
    // AuthenticationOk, ready, then a row that is cut short.
    b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x06\0\x01",
    // A negative length.
    b"R\xff\xff\xff\xff",
];

#[tokio::test]
async fn a_server_that_speaks_nonsense_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("password");
    std::fs::write(&secret, "secret").unwrap();
    for answer in ANSWERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            loop {
                let Ok((mut socket, _)) = listener.accept().await else { return };
                let mut hello = [0u8; 512];
                let _ = socket.read(&mut hello).await;
                let _ = socket.write_all(answer).await;
            }
        });
        let target = build(&format!(
            "[[target]]\nname = \"odd\"\nkind = \"postgres\"\nurl = \"postgres://errand@127.0.0.1:{port}/orders\"\n\
             sslmode = \"disable\"\npassword_file = \"{}\"\n[[target.role]]\nname = \"readonly\"\nmember_of = [\"x\"]\n",
            secret.display()
        ));
        let s = Subject {
            target: &*target,
            name: "odd",
            kind: "postgres",
            role: "readonly",
            store_id: crate::world::STORE,
            now: SystemClock.now(),
        };
        let request = s.request();
        let issued = target.issue(&durable(), &request).await.err();
        assert!(matches!(issued, Some(IssueError::Refused { .. })), "{answer:?}: {issued:?}");
        let revoked = target.revoke(&s.lease(&request, serde_json::Value::Null)).await;
        assert!(matches!(revoked, Err(RevokeError::Again { .. })), "{answer:?}: {revoked:?}");
        server.abort();
    }
}
