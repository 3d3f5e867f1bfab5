//! `errand journal verify` against real exports, with and without a server.

use super::{admin::Fake, run};
use proto_types::{Entropy, Position, Record, Timestamp};
use server_core::{
    journal::{ExportHeader, Frontier, encode, export_header, export_line, selection_header},
    ports::{StoredRecord, TreeRoot},
};
use std::path::PathBuf;

/// Salts need not be secret here.
struct Zero;
impl Entropy for Zero {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

pub fn export(n: u64) -> Vec<String> {
    let (mut tree, mut lines) = (Frontier::new(), Vec::new());
    for position in 0..n {
        let record =
            Record::new(Timestamp::from_secs(1_795_000_000), "task.started").intent(format!("work {position}"));
        let one = encode(&record, &Zero).unwrap();
        tree.append(one.leaf);
        let stored =
            StoredRecord { position: Position(position), leaf: one.leaf, body: one.body, private: one.private };
        lines.push(export_line(&stored));
    }
    let root = TreeRoot { size: n, root: tree.root() };
    lines.insert(0, export_header(&ExportHeader { store_id: "k3m9x".into(), root }));
    lines
}

fn file(home: &tempfile::TempDir, lines: &[String]) -> PathBuf {
    let path = home.path().join("export.jsonl");
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

#[test]
fn an_export_verifies_without_a_server_and_prints_size_and_root() {
    let home = tempfile::tempdir().unwrap();
    let path = file(&home, &export(5));
    let ran = run(home.path(), &["journal", "verify", "--file", path.to_str().unwrap()]).ok();
    assert!(ran.stdout.starts_with("size 5\nroot "), "{}", ran.stdout);
    let json =
        run(home.path(), &["journal", "verify", "--output", "json", "--file", path.to_str().unwrap()]).ok().json();
    assert_eq!((json["ok"].clone(), json["size"].clone()), (true.into(), 5.into()));
}

#[test]
fn a_changed_record_exits_1_and_its_position_is_on_stdout() {
    let home = tempfile::tempdir().unwrap();
    let mut lines = export(5);
    lines[4] = lines[4].replace("work 3", "work 4");
    let path = file(&home, &lines);
    let ran = run(home.path(), &["journal", "verify", "--file", path.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "first bad position 3\n"), "{}", ran.stderr);
    let ran = run(home.path(), &["journal", "verify", "--file", path.to_str().unwrap(), "--output", "json"]);
    assert_eq!((ran.status, ran.json()["first_bad_position"].clone()), (1, 3.into()));
}

#[test]
fn what_is_no_export_is_said_to_be_none() {
    let home = tempfile::tempdir().unwrap();
    let path = file(&home, &["{}".into()]);
    let ran = run(home.path(), &["journal", "verify", "--file", path.to_str().unwrap()]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("not a journal export"), "{}", ran.stderr);
}

#[test]
fn a_selection_is_refused_with_the_sentence_of_its_first_line() {
    let home = tempfile::tempdir().unwrap();
    let root = TreeRoot { size: 5, root: [7; 32] };
    let mut lines = export(5);
    lines[0] = selection_header(&ExportHeader { store_id: "k3m9x".into(), root });
    let note = serde_json::from_str::<serde_json::Value>(&lines[0]).unwrap()["note"].as_str().unwrap().to_string();
    let path = file(&home, &lines);
    let ran = run(home.path(), &["journal", "verify", "--file", path.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert!(note.contains("completeness is not claimed") && ran.stderr.contains(&note), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_asks_the_server_for_what_was_named_and_for_nothing_else() {
    let fake = Fake::start().await;
    fake.run(&["journal", "export"]).ok();
    fake.run(&["journal", "export", "--format", "jsonl", "--user", "kim@example.org"]).ok();
    fake.run(&["journal", "export", "--format", "cef", "--target", "orders-db", "--to", "2026-11-21T08:00:00Z"]).ok();
    assert_eq!(
        fake.asked(),
        [
            "GET /v1/journal/export",
            "GET /v1/journal/export?user=kim%40example.org",
            "GET /v1/journal/export?target=orders-db&to=2026-11-21T08%3A00%3A00Z&format=cef",
        ]
    );
    assert_eq!(fake.run(&["journal", "export", "--format", "xml"]).status, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_export_is_verified_here_and_not_believed() {
    let fake = Fake::start().await;
    let ran = fake.run(&["journal", "verify"]).ok();
    assert!(ran.stdout.starts_with("size 3\nroot "), "{}", ran.stdout);
    let exported = fake.run(&["journal", "export"]).ok().stdout;
    assert_eq!(exported.lines().collect::<Vec<_>>(), export(3));
    fake.tamper();
    let ran = fake.run(&["journal", "verify"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "first bad position 1\n"));
}
