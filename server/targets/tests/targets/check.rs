//! What `target check` says about a good arrangement, and about each way of spoiling it.

use crate::world::World;
use server_core::ports::Missing;
use server_targets::{Registry, parse_toml};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

fn says(found: &[Missing], severity: &str, words: &str) -> bool {
    found.iter().any(|m| m.severity == severity && m.what.contains(words))
}

#[tokio::test]
async fn a_good_arrangement_has_no_findings_and_checking_changes_nothing() {
    let w = World::new().await;
    let roles = "SELECT array_agg(rolname::text ORDER BY 1) FROM pg_roles";
    let before: Vec<String> = w.pg.ask(roles).await;
    assert_eq!(w.findings().await, []);
    assert_eq!(w.pg.ask::<Vec<String>>(roles).await, before);
}

/// Each: how it is spoilt, how grave that is, what is said. The fix is applied, and the finding is gone.
const SPOILT: [(&str, &str, &str); 12] = [
    ("ALTER ROLE errand NOCREATEROLE", "error", "may not create roles"),
    ("REVOKE pg_signal_backend FROM errand", "error", "may not end the sessions"),
    ("DROP OWNED BY orders_writer; DROP ROLE orders_writer", "error", "does not exist"),
    ("ALTER ROLE orders_writer SUPERUSER", "error", "is a superuser"),
    ("CREATE ROLE errand_orphans LOGIN; GRANT errand_orphans TO errand", "error", "errand_orphans may log in"),
    ("ALTER ROLE errand SUPERUSER", "warning", "is a superuser"),
    ("ALTER ROLE orders_writer CREATEROLE", "warning", "its own attributes"),
    ("GRANT pg_write_server_files TO orders_writer", "warning", "rights over the server"),
    ("GRANT CREATE ON SCHEMA public TO orders_writer", "warning", "create objects in schema public"),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "warning", "create objects in schema public"),
    ("GRANT CREATE ON DATABASE orders TO orders_writer", "warning", "create objects in database orders"),
    ("CREATE TABLE theirs(a int); ALTER TABLE theirs OWNER TO orders_writer", "warning", "owns 1 objects"),
];

#[tokio::test]
async fn each_way_of_spoiling_it_is_named_with_a_statement_that_mends_it() {
    let mut w = World::new().await;
    for (spoil, severity, words) in SPOILT {
        w.pg.sql(spoil).await;
        let found = w.findings().await;
        assert!(says(&found, severity, words), "{spoil}: {found:#?}");
        let fixes: Vec<_> = found.iter().map(|m| m.fix.clone().unwrap_or_else(|| panic!("no fix: {m:?}"))).collect();
        if spoil.contains("OWNER TO") {
            w.pg.sql("DROP TABLE theirs").await;
        }
        for fix in fixes.iter().filter(|f| !f.contains("another_role")) {
            w.pg.sql(fix).await;
        }
        if w.findings().await.iter().any(|m| m.severity == "error") {
            // A role that had to be made anew is granted anew, as its own finding says.
            for fix in w.findings().await.into_iter().filter_map(|m| m.fix) {
                w.pg.sql(&fix).await;
            }
        }
        let after = w.findings().await;
        assert!(!says(&after, severity, words), "{spoil}: {after:#?}");
    }
    assert_eq!(w.findings().await, []);
    w.pg.stop();
}

#[tokio::test]
async fn a_right_that_only_16_knows_is_asked_for_there() {
    let w = World::new().await;
    if w.pg.version() < 160_000 {
        return;
    }
    w.pg.sql("REVOKE orders_reader FROM errand").await;
    let found = w.findings().await;
    assert!(says(&found, "error", "may not grant"), "{found:#?}");
    w.pg.sql(found[0].fix.as_deref().unwrap()).await;
    assert_eq!(w.findings().await, []);
}

#[tokio::test]
async fn the_printed_setup_makes_an_arrangement_without_findings() {
    let w = World::new().await;
    w.pg.sql("REVOKE ALL ON orders FROM orders_reader, orders_writer; DROP ROLE orders_writer").await;
    w.pg.sql("REVOKE pg_signal_backend FROM errand; ALTER ROLE errand NOCREATEROLE").await;
    let docs = parse_toml(&w.pg.target_toml("orders-db"), "config").unwrap();
    // The fixture's own role has its password already; the rest of the script is run as printed.
    let script: String = Registry::builtin()
        .setup(&docs[0])
        .unwrap()
        .lines()
        .filter(|l| !l.starts_with("\\password"))
        .map(|l| l.replace("CREATE ROLE \"errand\"", "ALTER ROLE \"errand\"") + "\n")
        .collect();
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
    assert_eq!(w.findings().await, []);
    w.end(&w.issue("writer").await).await;
}
