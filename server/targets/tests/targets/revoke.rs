//! How a credential ends: its sessions, its objects, and what was planted.

use crate::world::{STORE, World, exec, refused};
use server_core::ports::{RevokeError, Revoked};
use server_targets::{Registry, parse_toml};
use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};
use testkit::poll;

#[tokio::test]
async fn open_sessions_end_with_the_credential() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    let mut busy = w.log_in(&held).await.unwrap();
    let asleep = tokio::spawn(async move { exec(&mut busy, "SELECT pg_sleep(60)").await });
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", held.user());
    poll::until("the session sleeps", Duration::from_secs(5), async || w.pg.ask::<i64>(&sessions).await == 1).await;
    w.end(&held).await;
    assert!(asleep.await.unwrap().is_err(), "its statement was ended");
    assert!(w.log_in(&held).await.is_err());
}

#[tokio::test]
async fn a_session_that_outlived_its_roles_name_ends_by_the_saved_oid() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    let mut session = w.log_in(&held).await.unwrap();
    // Somebody tidied up by hand: the name is gone, the session is not.
    w.pg.sql(&format!("DROP ROLE {}", held.user())).await;
    exec(&mut session, "SELECT 1").await.unwrap();
    assert_eq!(w.target.revoke(&held.lease).await.unwrap(), Revoked::Gone);
    assert!(exec(&mut session, "SELECT 1").await.is_err());
}

#[tokio::test]
async fn a_saved_oid_that_is_somebody_elses_by_now_is_left_alone() {
    let w = World::new().await;
    let mut held = w.issue("readonly").await;
    let human: i64 = w.pg.ask("SELECT oid::int8 FROM pg_roles WHERE rolname = 'postgres'").await;
    let mut session = w.pg.admin().await;
    held.lease.handle = serde_json::json!({ "oid": human }).into();
    w.end(&held).await;
    exec(&mut session, "SELECT 1").await.unwrap();
}

/// A place where tasks may create, as careless databases have.
const CARELESS: &str =
    "GRANT CREATE ON SCHEMA public TO orders_writer; GRANT CREATE ON DATABASE orders TO orders_writer";

#[tokio::test]
async fn hostile_names_in_the_target_are_names_and_nothing_else() {
    let w = World::new().await;
    w.pg.sql(CARELESS).await;
    w.pg.sql("CREATE ROLE x NOLOGIN").await;
    let held = w.issue("writer").await;
    let mut task = w.log_in(&held).await.unwrap();
    for name in ["a\"; ALTER ROLE x SUPERUSER;--", "'; ALTER ROLE errand SUPERUSER; --", "$$", "%I", "\\", "a.b c(d)"] {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        exec(
            &mut task,
            &format!(
                "CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted}(a int); CREATE TYPE {quoted}.\"t{}\" AS (a int); \
                 CREATE FUNCTION {quoted}.{quoted}({quoted} {quoted}.\"t{}\") RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; \
                 CREATE COLLATION {quoted}.{quoted} (locale = 'C')",
                &quoted[1..quoted.len() - 1],
                &quoted[1..quoted.len() - 1],
            ),
        )
        .await
        .unwrap();
    }
    drop(task);
    w.end(&held).await;
    let supers: i64 = w.pg.ask("SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'").await;
    assert_eq!(supers, 0);
    let kept: i64 = w.pg.ask("SELECT count(*) FROM pg_namespace WHERE nspowner = 'errand_orphans'::regrole").await;
    assert_eq!(kept, 6, "schemas with data are kept, by the orphans' role");
    let routines: i64 = w.pg.ask("SELECT count(*) FROM pg_proc WHERE proowner = 'errand_orphans'::regrole").await;
    assert_eq!(routines, 0);
}

#[tokio::test]
async fn a_planted_routine_gains_nothing() {
    let w = World::new().await;
    w.pg.sql(CARELESS).await;
    let held = w.issue("writer").await;
    let mut task = w.log_in(&held).await.unwrap();
    exec(
        &mut task,
        "CREATE FUNCTION peek() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*)::int FROM orders'; \
         CREATE FUNCTION next() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE FUNCTION bite() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TABLE trap(a int); CREATE TRIGGER bite BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION bite(); \
         CREATE TABLE notes(a int DEFAULT next()); INSERT INTO notes VALUES (7); \
         CREATE VIEW seen AS SELECT next() AS n; \
         ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC; \
         CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int, initcond = '0')",
    )
    .await
    .unwrap();
    drop(task);
    w.end(&held).await;
    assert_eq!(w.pg.ask::<i64>(ROUTINES).await, 0);
    let notes: i64 = w.pg.ask("SELECT count(*) FROM notes").await;
    assert_eq!(notes, 1, "data is kept");
    let triggers: i64 = w.pg.ask("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").await;
    assert_eq!(triggers, 0);
}

const ROUTINES: &str = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace";

#[tokio::test]
async fn a_routine_that_somebody_elses_view_needs_takes_no_view_along_and_keeps_no_rights() {
    let w = World::new().await;
    w.pg.sql(CARELESS).await;
    let held = w.issue("writer").await;
    let mut task = w.log_in(&held).await.unwrap();
    let peek = "CREATE FUNCTION peek() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*)::int FROM orders'";
    exec(&mut task, peek).await.unwrap();
    drop(task);
    w.pg.sql("CREATE VIEW somebodys AS SELECT peek() AS n").await;
    let error = w.target.revoke(&held.lease).await.unwrap_err();
    assert!(matches!(&error, RevokeError::NeedsHuman { why } if why.contains("errand_orphans")), "{error}");
    // Not even a superuser's call gives it its rights back.
    assert_eq!(refused(&mut w.pg.admin().await, "SELECT peek()").await, "42501");
    let views: i64 = w.pg.ask("SELECT count(*) FROM pg_views WHERE viewname = 'somebodys'").await;
    assert_eq!(views, 1);
    w.pg.sql("DROP VIEW somebodys").await;
    w.end(&held).await;
    assert_eq!(w.pg.ask::<i64>(ROUTINES).await, 0);
}

#[tokio::test]
async fn a_schema_is_given_away_although_the_role_has_lost_its_rights_already() {
    let w = World::new().await;
    w.pg.sql(CARELESS).await;
    let held = w.issue("writer").await;
    exec(&mut w.log_in(&held).await.unwrap(), "CREATE SCHEMA work; CREATE TABLE work.notes(a int)").await.unwrap();
    w.end(&held).await;
    let owner: String = w.pg.ask("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'work'").await;
    assert_eq!(owner, "errand_orphans");
    let member: bool =
        w.pg.ask("SELECT EXISTS (SELECT FROM pg_auth_members WHERE member = 'errand_orphans'::regrole)").await;
    assert!(!member);
}

#[tokio::test]
async fn what_a_task_left_in_another_database_ends_too() {
    let w = World::new().await;
    let other = "ano'ther \"db\"; DROP";
    w.pg.sql_on("postgres", "CREATE DATABASE \"ano'ther \"\"db\"\"; DROP\"").await;
    w.pg.sql_on(other, "GRANT CREATE ON SCHEMA public TO orders_writer").await;
    let held = w.issue("writer").await;
    let mut task = w.pg.connect(held.user(), held.password().expose(), other).await.unwrap();
    exec(&mut task, "CREATE TABLE far(a int); CREATE FUNCTION far() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        .await
        .unwrap();
    w.end(&held).await;
    let mut admin = w.pg.admin_on(other).await;
    let owner: String = sqlx::query_scalar("SELECT tableowner::text FROM pg_tables WHERE tablename = 'far'")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(owner, "errand_orphans");
}

#[tokio::test]
async fn rights_that_somebody_granted_to_it_directly_are_named() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    w.pg.sql(&format!("GRANT SELECT ON orders TO {}", held.user())).await;
    let error = w.target.revoke(&held.lease).await.unwrap_err();
    assert!(matches!(&error, RevokeError::NeedsHuman { why } if why.contains("DROP OWNED BY")), "{error}");
    assert!(w.log_in(&held).await.is_err(), "it is locked out all the same");
    w.pg.sql(&format!("DROP OWNED BY {}", held.user())).await;
    w.end(&held).await;
}

#[tokio::test]
async fn a_database_that_takes_no_connections_matters_only_when_something_is_owned_there() {
    let w = World::new().await;
    w.pg.sql_on("postgres", "CREATE DATABASE closed").await;
    w.pg.sql_on("closed", "GRANT CREATE ON SCHEMA public TO orders_writer").await;
    let clean = w.issue("writer").await;
    let messy = w.issue("writer").await;
    let mut task = w.pg.connect(messy.user(), messy.password().expose(), "closed").await.unwrap();
    exec(&mut task, "CREATE TABLE far(a int)").await.unwrap();
    w.pg.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false").await;
    w.end(&clean).await;
    let error = w.target.revoke(&messy.lease).await.unwrap_err();
    assert!(matches!(&error, RevokeError::NeedsHuman { why } if why.contains("closed")), "{error}");
    assert!(w.log_in(&messy).await.is_err(), "it is locked out all the same");
    w.pg.sql("ALTER DATABASE closed ALLOW_CONNECTIONS true").await;
    w.end(&messy).await;
}

#[tokio::test]
async fn a_prepared_transaction_is_rolled_back() {
    let w = World::new().await;
    w.pg.sql(CARELESS).await;
    let held = w.issue("writer").await;
    let mut task = w.log_in(&held).await.unwrap();
    exec(&mut task, "BEGIN").await.unwrap();
    exec(&mut task, "CREATE TABLE later(a int)").await.unwrap();
    exec(&mut task, "PREPARE TRANSACTION 'it''s \\ later'").await.unwrap();
    w.end(&held).await;
    assert_eq!(w.pg.ask::<i64>("SELECT count(*) FROM pg_prepared_xacts").await, 0);
    assert_eq!(w.pg.ask::<i64>("SELECT count(*) FROM pg_tables WHERE tablename = 'later'").await, 0);
}

#[tokio::test]
async fn an_orphans_role_that_somebody_gave_rights_is_not_used() {
    let w = World::new().await;
    w.pg.sql(CARELESS).await;
    w.pg.sql("CREATE ROLE errand_orphans NOLOGIN; GRANT orders_writer TO errand_orphans").await;
    w.pg.sql("GRANT errand_orphans TO errand").await;
    let held = w.issue("writer").await;
    exec(&mut w.log_in(&held).await.unwrap(), "CREATE TABLE mine(a int)").await.unwrap();
    let error = w.target.revoke(&held.lease).await.unwrap_err();
    assert!(matches!(&error, RevokeError::NeedsHuman { why } if why.contains("errand_orphans")), "{error}");
    assert!(w.log_in(&held).await.is_err(), "it is locked out all the same");
    w.pg.sql("REVOKE orders_writer FROM errand_orphans").await;
    w.end(&held).await;
}

#[tokio::test]
async fn a_role_that_comes_back_with_a_restored_target_is_dropped_again() {
    let w = World::new().await;
    let held = w.issue("readonly").await;
    w.end(&held).await;
    let name = held.user();
    w.pg.sql(&format!("CREATE ROLE {name} LOGIN; COMMENT ON ROLE {name} IS 'errand lease task=x'")).await;
    if w.pg.version() >= 160_000 {
        w.pg.sql(&format!("GRANT {name} TO errand WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")).await;
    }
    w.end(&held).await;
}

#[tokio::test]
async fn people_can_end_everything_by_hand_and_touch_nobody_else() {
    let w = World::new().await;
    w.pg.sql(CARELESS).await;
    let held = w.issue("writer").await;
    let mut task = w.log_in(&held).await.unwrap();
    exec(&mut task, "CREATE TABLE mine(a int); CREATE FUNCTION \"m;\"() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        .await
        .unwrap();
    // Another installation on the same server, and a name that `_` as a wildcard would match.
    w.pg.sql("CREATE ROLE errand_zzzzz_aaaaaaaaaaaaaaaa; CREATE ROLE errandxk3m9xxaaaaaaaaaaaaaaaa").await;
    let docs = parse_toml(&w.pg.target_toml("orders-db"), "config").unwrap();
    let script = Registry::builtin().by_hand(&docs[0], STORE).unwrap();
    let mut psql = Command::new(w.pg.tool("psql"))
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "orders", "-h"])
        .arg(w.pg.socket_dir())
        .args(["-p", &w.pg.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(w.roles_named(held.user()).await, 0);
    assert_eq!(w.pg.ask::<i64>("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'errand%aaaa'").await, 2);
    assert!(exec(&mut task, "SELECT 1").await.is_err());
}
