//! What an issued credential can do, what it cannot, and where its secret is seen.

use crate::world::{World, exec, refused};
use proto_types::{Placement, Timestamp};
use std::{process::Command, time::Duration};
use testkit::target_law;

#[tokio::test]
async fn postgres_obeys_the_law_of_targets() {
    let w = World::new().await;
    for role in ["readonly", "writer"] {
        target_law::holds(
            &w.subject(role),
            |name| async {
                let name = name;
                w.pg.sql(&format!("CREATE ROLE {name} NOLOGIN")).await
            },
            |name| async {
                let name = name;
                w.pg.sql(&format!("DROP ROLE {name}")).await
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_credential_logs_in_and_has_the_rights_of_its_group_and_no_others() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    let mut task = w.log_in(&held).await.unwrap();
    let items: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut task).await.unwrap();
    assert_eq!(items, 2);
    for statement in [
        "INSERT INTO orders VALUES (3, 'table')",
        "DROP TABLE orders",
        "CREATE TABLE mine(a int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE friend",
        "CREATE DATABASE mine",
        &format!("ALTER ROLE {} SUPERUSER", held.user()),
        &format!("ALTER ROLE {} VALID UNTIL 'infinity'", held.user()),
        &format!("COMMENT ON ROLE {} IS 'nobody''s'", held.user()),
        "GRANT orders_reader TO errand",
        "SET ROLE errand",
    ] {
        assert_eq!(refused(&mut task, statement).await, "42501", "{statement}");
    }
    // Before 16 a member may also put its group's name on; the check warns when that is worth something.
    let set_role = exec(&mut task, "SET ROLE orders_reader").await;
    assert_eq!(set_role.is_err(), w.pg.version() >= 160_000);
}

#[tokio::test]
async fn a_role_carries_its_limits_and_says_whose_it_is() {
    let w = World::new().await;
    let mut request = w.subject("readonly").request();
    request.user = Some("kim@example.org".into());
    let held = w.issue_as(request).await.unwrap();
    let of = format!("FROM pg_roles WHERE rolname = '{}'", held.user());
    let limit: i32 = w.pg.ask(&format!("SELECT rolconnlimit {of}")).await;
    assert_eq!(limit, 4);
    let until: i64 = w.pg.ask(&format!("SELECT (extract(epoch FROM rolvaliduntil) * 1000)::int8 {of}")).await;
    assert_eq!(Timestamp::from_millis(until), held.issued.not_after);
    let bare: bool = w
        .pg
        .ask(&format!(
            "SELECT NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls) AND rolinherit {of}"
        ))
        .await;
    assert!(bare);
    let comment: String = w.pg.ask(&format!("SELECT shobj_description(oid, 'pg_authid') {of}")).await;
    let task = held.request.task;
    assert_eq!(
        comment,
        format!("errand lease task={task} workload=spiffe://example.org/agents/planner user=kim@example.org")
    );
    let mut session = w.log_in(&held).await.unwrap();
    let shown = |name: &'static str| format!("SELECT current_setting('{name}')");
    for (name, value) in
        [("application_name", format!("errand task={task}")), ("search_path", "\"$user\", public".to_string())]
    {
        let got: String = sqlx::query_scalar(sqlx::AssertSqlSafe(shown(name))).fetch_one(&mut session).await.unwrap();
        assert_eq!(got, value);
    }
}

#[tokio::test]
async fn a_credential_never_outlives_what_its_role_allows() {
    let w = World::new().await;
    let mut request = w.subject("readonly").request();
    request.not_after = w.now.plus(Duration::from_secs(86_400));
    let held = w.issue_as(request).await.unwrap();
    assert_eq!(held.issued.not_after, w.now.plus(Duration::from_secs(1800)));
}

#[tokio::test]
async fn a_renewal_keeps_the_name_and_ends_the_old_password() {
    let w = World::new().await;
    let first = w.issue("readonly").await;
    let mut request = first.request.clone();
    request.not_after = w.now.plus(Duration::from_secs(1200));
    let second = w.issue_as(request).await.unwrap();
    assert_eq!(first.issued.handle, second.issued.handle);
    assert!(w.log_in(&first).await.is_err());
    w.log_in(&second).await.unwrap();
    // The same name for another task is not a renewal.
    let mut other = w.subject("readonly").request();
    other.name = first.request.name.clone();
    assert!(w.issue_as(other).await.is_err());
    w.log_in(&second).await.unwrap();
}

#[tokio::test]
async fn the_password_is_in_no_log_of_the_target_and_in_no_view() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    drop(w.log_in(&held).await.unwrap());
    let password = held.password().expose();
    assert!(w.pg.log().contains(held.user()), "the log is the right one, and statements are in it");
    assert!(!w.pg.log().contains(password.as_str()));
    let seen: i64 =
        w.pg.ask(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{password}%' AND pid <> pg_backend_pid()"
        ))
        .await;
    assert_eq!(seen, 0);
    let stored: String =
        w.pg.ask(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", held.user())).await;
    assert!(stored.starts_with("SCRAM-SHA-256$4096:"), "{stored}");
}

#[tokio::test]
async fn psql_finds_the_credential_where_it_looks_by_itself() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display().to_string();
    let mut env = Vec::new();
    for placement in &held.issued.placement {
        match placement {
            Placement::Env { name, value } => env.push((name.clone(), value.replace("${DIR}", &here))),
            Placement::File { path, content, append } => {
                assert!(append, "{path} is shared by several grants");
                let path = dir.path().join(path);
                std::fs::write(&path, content.replace("${DIR}", &here)).unwrap();
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    let psql = |arguments: &[&str]| {
        let mut command = Command::new(w.pg.tool("psql"));
        command.env_clear().envs(env.clone()).args(["-w", "-X", "-A", "-t", "-c", "SELECT current_user"]);
        String::from_utf8(command.args(arguments).output().unwrap().stdout).unwrap()
    };
    let user = format!("{}\n", held.user());
    assert_eq!(psql(&[]), user);
    assert_eq!(psql(&["service=orders-db"]), user);
    assert_eq!(psql(&["service=orders-db/readonly"]), user);
    let url = env.iter().find(|(name, _)| name == "DATABASE_URL").unwrap().1.clone();
    assert!(!url.contains(held.password().expose().as_str()));
    assert_eq!(psql(&[&url]), user);
    assert!(held.issued.fields.expose().contains(held.password().expose().as_str()));
}
