//! `errand journal verify` against real exports, with and without a server.

use super::{admin::Fake, run};
use proto_types::{Entropy, Position, Record, Timestamp};
use server_core::{
    journal::{ExportHeader, Frontier, Hash, KeyKind, SignedNote, encode, export_header, export_line, prove_inclusion},
    ports::{JournalSigner, StoredRecord, TreeRoot},
};
use std::path::{Path, PathBuf};
use testkit::signers::TestLog;

/// Salts need not be secret here.
struct Zero;
impl Entropy for Zero {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn records(n: u64) -> Vec<StoredRecord> {
    let one = |position| {
        let record =
            Record::new(Timestamp::from_secs(1_795_000_000), "task.started").intent(format!("work {position}"));
        let one = encode(&record, &Zero).unwrap();
        StoredRecord { position: Position(position), leaf: one.leaf, body: one.body, private: one.private }
    };
    (0..n).map(one).collect()
}

fn root(records: &[StoredRecord]) -> TreeRoot {
    let mut tree = Frontier::new();
    records.iter().for_each(|r| tree.append(r.leaf));
    TreeRoot { size: tree.size(), root: tree.root() }
}

/// The checkpoint over `n` records, signed by the journal's key.
pub fn checkpoint(n: u64) -> SignedNote {
    TestLog::journal().checkpoint(root(&records(n))).unwrap()
}

/// A whole export of `n` records under a checkpoint.
fn export_under(n: u64, note: SignedNote) -> Vec<String> {
    let records = records(n);
    let header = ExportHeader::whole("k3m9x", root(&records)).signed(note);
    std::iter::once(export_header(&header)).chain(records.iter().map(|r| export_line(r, None))).collect()
}

pub fn export(n: u64) -> Vec<String> {
    export_under(n, checkpoint(n))
}

/// Some records of `n`, each with its path.
fn selection(n: u64, places: &[u64]) -> Vec<String> {
    let records = records(n);
    let leaves: Vec<Hash> = records.iter().map(|r| r.leaf).collect();
    let line = |at: &u64| {
        let path = prove_inclusion(*at, n, leaves.as_slice()).unwrap().unwrap();
        export_line(&records[*at as usize], Some(&path))
    };
    let header = ExportHeader::selection("k3m9x", root(&records)).signed(checkpoint(n));
    std::iter::once(export_header(&header)).chain(places.iter().map(line)).collect()
}

fn verify(home: &tempfile::TempDir, lines: &[String], more: &[&str]) -> super::Ran {
    let path = file(home, lines);
    let args = ["journal", "verify", "--file", path.to_str().unwrap()];
    run(home.path(), &[args.as_slice(), more].concat())
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
fn with_a_key_the_root_must_be_signed_by_it() {
    let home = tempfile::tempdir().unwrap();
    let key = TestLog::journal().verifier().to_string();
    let ran = verify(&home, &export(5), &["--key", &key]).ok();
    assert!(ran.stdout.ends_with("signed by errand.journal/example.org/k3m9x\n"), "{}", ran.stdout);
    let mut unsigned = export(5);
    unsigned[0] = export_header(&ExportHeader::whole("k3m9x", root(&records(5))));
    verify(&home, &unsigned, &[]).ok();
    let other = TestLog::new(9, TestLog::journal().verifier().name(), KeyKind::Log).verifier().to_string();
    for (lines, key, why) in [
        (&unsigned, &key, "no signed checkpoint"),
        (&export(5), &other, "did not sign it"),
        (&export_under(5, checkpoint(4)), &key, "another root"),
    ] {
        let ran = verify(&home, lines, &["--key", key]);
        assert!(ran.status == 1 && ran.stderr.contains(why), "{why}: {}", ran.stderr);
    }
    assert_eq!(verify(&home, &export(5), &["--key", &key[1..]]).status, 2, "a key that was cut");
}

#[test]
fn a_selection_proves_its_records_and_a_wrong_one_is_named() {
    let home = tempfile::tempdir().unwrap();
    let key = TestLog::journal().verifier().to_string();
    let lines = selection(9, &[2, 5]);
    let ran = verify(&home, &lines, &["--key", &key]).ok();
    assert!(ran.stdout.starts_with("2 records of 9, each included; completeness not claimed\n"), "{}", ran.stdout);
    let json = verify(&home, &lines, &["--key", &key, "--output", "json"]).ok().json();
    assert_eq!((json["records"].clone(), json["complete"].clone()), (2.into(), false.into()));
    let mut wrong = lines;
    wrong[2] = wrong[2].replace("work 5", "work 6");
    let ran = verify(&home, &wrong, &["--key", &key]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "first bad position 5\n"), "{}", ran.stderr);
}

#[test]
fn a_checkpoint_kept_from_before_tells_an_older_journal_and_another_one() {
    let home = tempfile::tempdir().unwrap();
    let key = TestLog::journal().verifier().to_string();
    let kept = |note: SignedNote| {
        let path = home.path().join("kept.checkpoint");
        std::fs::write(&path, note.to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let since = |path: &str| verify(&home, &export(5), &["--key", &key, "--since", path]);
    since(&kept(checkpoint(3))).ok();
    let newer = since(&kept(checkpoint(7)));
    assert!(newer.status == 1 && newer.stderr.contains("records were cut off"), "{}", newer.stderr);
    let forked = TestLog::journal().checkpoint(TreeRoot { size: 3, root: [3; 32] }).unwrap();
    let forked = since(&kept(forked));
    assert_eq!((forked.status, forked.stdout.as_str()), (1, "first bad position 0\n"), "{}", forked.stderr);
    let foreign = TestLog::new(9, TestLog::journal().verifier().name(), KeyKind::Log).checkpoint(root(&records(3)));
    let foreign = since(&kept(foreign.unwrap()));
    assert!(foreign.status == 1 && foreign.stderr.contains("the older checkpoint"), "{}", foreign.stderr);
}

#[test]
fn a_witness_is_named_with_what_it_saw() {
    let home = tempfile::tempdir().unwrap();
    let (key, witness) = (TestLog::journal().verifier().to_string(), TestLog::witness());
    let more = ["--key", &key, "--witness", &witness.verifier().to_string()];
    let ran = verify(&home, &export_under(5, witness.cosign(&checkpoint(5), 1_795_000_000)), &more).ok();
    assert!(ran.stdout.contains("witnessed by witness.example.org at size 5, 2026-"), "{}", ran.stdout);
    let ran = verify(&home, &export(5), &more);
    assert!(ran.status == 1 && ran.stderr.contains("`witness.example.org` did not sign it"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_checkpoint_its_key_and_a_cosignature_are_printed_and_handed_on() {
    let fake = Fake::start().await;
    let (key, witness) = (TestLog::journal().verifier().to_string(), TestLog::witness());
    assert_eq!(fake.run(&["journal", "checkpoint"]).ok().stdout, checkpoint(3).to_string());
    assert_eq!(fake.run(&["journal", "checkpoint", "--vkey"]).ok().stdout, key + "\n");
    let cosigned = witness.cosign(&checkpoint(3), 7).to_string();
    let file = fake.file("cosigned", &cosigned);
    fake.asked();
    assert_eq!(fake.run(&["journal", "checkpoint", "--add-cosignature", &file]).ok().stdout, cosigned);
    assert_eq!(fake.asked(), ["POST /v1/journal/checkpoint/cosignatures"]);
    let nothing = fake.file("nothing", "no note");
    assert_eq!(fake.run(&["journal", "checkpoint", "--add-cosignature", &nothing]).status, 1);
    assert!(Path::new(&file).exists() && fake.asked().is_empty(), "what is no note is not sent");
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
