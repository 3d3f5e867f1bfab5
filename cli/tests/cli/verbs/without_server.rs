//! What needs no server, and what is said when there is none.

use super::{errand, run};
use std::{fs::Permissions, os::unix::fs::PermissionsExt};

#[test]
fn without_a_server_a_verb_exits_69_and_says_what_was_tried() {
    let home = tempfile::tempdir().unwrap();
    let ran = run(home.path(), &["task", "list"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (69, ""));
    assert!(
        ran.stderr.contains("/run/errand/server.sock") && ran.stderr.contains("errand/dev/dev.env"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("next: start `errand dev`"), "{}", ran.stderr);
}

#[test]
fn a_named_socket_is_the_only_one_that_is_tried() {
    let home = tempfile::tempdir().unwrap();
    let ran: super::Ran = errand(home.path())
        .args(["entry", "list"])
        .env("ERRAND_SERVER_SOCKET", "/nowhere/s.sock")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.status, 69);
    assert!(ran.stderr.contains("/nowhere/s.sock") && !ran.stderr.contains("/run/errand"), "{}", ran.stderr);
}

#[test]
fn a_dev_env_that_others_may_write_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(".local/share/errand/dev");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("dev.env"), "ERRAND_SERVER_SOCKET=/nowhere/s.sock\n").unwrap();
    let with_mode = |mode| {
        std::fs::set_permissions(dir.join("dev.env"), Permissions::from_mode(mode)).unwrap();
        run(home.path(), &["task", "list"])
    };
    let (loose, tight) = (with_mode(0o666), with_mode(0o600));
    assert_eq!((loose.status, tight.status), (69, 69));
    assert!(loose.stderr.contains("others may write to it"), "{}", loose.stderr);
    assert!(tight.stderr.contains("`errand dev` is not running"), "{}", tight.stderr);
}

#[test]
fn bad_usage_exits_2_before_a_server_is_looked_for() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["nonsense"][..],
        &["entry", "create"],
        &["entry", "create", "--spiffe-id", "http://example.org/a", "--selector", "unix:uid:1"],
        &["entry", "create", "--spiffe-id", "spiffe://example.org/a", "--selector", "no-colon"],
        &["entry", "update", "an-id"],
        &["entry", "show"],
        &["task", "revoke"],
        &["task", "list", "--from", "yesterday"],
        &["task", "list", "--limit", "0"],
        &["node", "token", "--ttl", "5"],
        &["mint", "jwt", "--spiffe-id", "spiffe://example.org/a"],
        &["lease", "list", "--server-socket", "tcp://127.0.0.1:1"],
    ] {
        let ran = run(home.path(), args);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_malformed_file_of_entries_exits_78_and_names_the_entry() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("entries.json");
    std::fs::write(&file, r#"[{"spiffe_id": "spiffe://example.org/a", "selectors": []}]"#).unwrap();
    let ran = run(home.path(), &["entry", "create", "--data", file.to_str().unwrap()]);
    assert_eq!(ran.status, 78);
    assert!(ran.stderr.contains("entry 1: it needs at least one selector"), "{}", ran.stderr);
}

#[test]
fn help_and_version_are_data_and_exit_0() {
    let home = tempfile::tempdir().unwrap();
    assert!(run(home.path(), &["--help"]).ok().stdout.starts_with("Errand gives a workload"));
    assert!(run(home.path(), &["--version"]).ok().stdout.starts_with("errand "));
    assert!(run(home.path(), &["completions", "bash"]).ok().stdout.contains("_errand"));
}

#[test]
fn doctor_finds_nothing_on_an_empty_machine_and_exits_69() {
    let home = tempfile::tempdir().unwrap();
    let ran = run(home.path(), &["doctor", "--output", "json"]);
    assert_eq!(ran.status, 69);
    let states: Vec<_> = ran.json()["findings"].as_array().unwrap().iter().map(|f| f["state"].clone()).collect();
    assert_eq!(states, ["note", "note"]);
}
