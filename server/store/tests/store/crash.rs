//! A server killed while it commits: what was acknowledged is there, a unit is there wholly or not at all.

use super::{beside, open, place, size, verdict};
use server_core::{
    journal::Verdict,
    ports::{Ledger, Snapshots},
};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use testkit::ledger_law::nouns::{entry, new_entry, note, record};

const STORE: &str = "ERRAND_TEST_STORE";

/// The store to work on, in a process that a test started; `None` in an ordinary run.
pub fn store_of_child() -> Option<PathBuf> {
    std::env::var_os(STORE).map(PathBuf::from)
}

/// Makes `command` run one test of this binary on the store at `path`.
pub fn child(mut command: Command, test: &str, path: &Path) -> Command {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(STORE, path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Commits units of two records and an entry from several tasks and says each one that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_commits_until_it_is_killed() {
    let Some(path) = store_of_child() else { return };
    let store = open(&path);
    let begin = size(&store);
    let committer = |lane: u64| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let number = begin * 1_000_000 + n * 100 + lane;
                let unit = new_entry(note().also(record("entry.created")), &entry(number, number));
                let durable = store.commit(unit).await.expect("nothing is against it");
                println!("\nacknowledged {}", durable.last().0);
            }
        })
    };
    let running: Vec<_> = (0..8).map(committer).collect();
    for committer in running {
        committer.await.unwrap();
    }
}

/// Runs the child until `count` units were acknowledged, kills it, and returns the last acknowledged position.
fn run_and_kill(path: &Path, count: usize) -> u64 {
    let command = Command::new(std::env::current_exe().unwrap());
    let mut child = child(command, "crash::child_commits_until_it_is_killed", path).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut last, mut seen) = (0, 0);
    // After the kill the rest of the pipe is read too: it was acknowledged all the same.
    for line in lines.map_while(Result::ok) {
        if let Some(position) = line.strip_prefix("acknowledged ").and_then(|p| p.parse().ok()) {
            last = u64::max(last, position);
            seen += 1;
            if seen == count {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(seen >= count, "the child ended after {seen} units");
    last
}

#[tokio::test]
async fn a_server_killed_while_committing_loses_nothing_that_was_acknowledged() {
    let (_folder, path) = place();
    drop(open(&path));
    for (round, count) in [20, 150, 700].into_iter().enumerate() {
        let last = run_and_kill(&path, count);
        assert!(beside(&path, "-wal").exists(), "the child ended in good order");
        let store = open(&path);
        let there = size(&store);
        assert!(there > last, "round {round}: {last} was acknowledged, {there} records are there");
        assert_eq!(there % 2, 0, "half a unit is there");
        assert_eq!(store.load().await.unwrap().entries.len() as u64, there / 2);
        if round == 1 {
            store.write_root(None).await.unwrap();
        }
        assert!(matches!(verdict(&store).await, Verdict::Ok { size, .. } if size == there));
    }
}
