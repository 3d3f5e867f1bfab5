//! A full disk, a failing disk, and what is thrown away in time.

use super::{crash, open, options, place, size, verdict};
use proto_types::{Record, Timestamp};
use server_core::{
    journal::Verdict,
    ports::{Commit, CommitError, Guard, Ledger, Snapshots, Write},
};
use server_store::SqliteStore;
use std::{process::Command, sync::Arc};
use testkit::{
    fakes::{FakeClock, SeededEntropy},
    ledger_law::nouns::{T0, at, claim, entry, new_entry, note, record},
};

/// A record of about 8 KiB.
fn large() -> Record {
    record("decision.made").detail(serde_json::json!({"text": "x".repeat(8192)}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_says_so_answers_readers_and_heals_when_there_is_space() {
    let (_folder, path) = place();
    let store = open(&path);
    store.commit(new_entry(note(), &entry(1, 1))).await.unwrap();
    store.limit_size(1 << 20).await.unwrap();
    let mut kept = 1;
    let refused = loop {
        match store.commit(Commit::of(large())).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000, "the limit was ignored");
    };
    assert_eq!(refused, CommitError::Full);
    // A group is refused as a whole: no unit of it is there in part.
    let group: Vec<_> = (10..42)
        .map(|n| {
            let (store, unit) = (store.clone(), new_entry(Commit::of(large()), &entry(n, n)));
            tokio::spawn(async move { store.commit(unit).await })
        })
        .collect();
    for unit in group {
        assert!(matches!(unit.await.unwrap(), Err(CommitError::Full)));
    }
    assert_eq!(size(&store), kept);
    assert_eq!(store.load().await.unwrap().entries, [entry(1, 1)]);
    assert_eq!(store.unusable(), None);

    store.limit_size(1 << 30).await.unwrap();
    let durable = store.commit(Commit::of(large())).await.unwrap();
    assert_eq!(durable.first().0, kept, "a refused unit took a position");
    drop(store);
    let again = open(&path);
    assert!(matches!(verdict(&again).await, Verdict::Ok { size, .. } if size == kept + 1));
}

/// In a process of its own whose files may not grow past a limit: to SQLite that is an I/O error, as a failed sync is.
#[tokio::test]
async fn child_writes_until_the_disk_fails() {
    let Some(path) = crash::store_of_child() else { return };
    let store = open(&path);
    let (mut kept, mut failed) = (0, None);
    while failed.is_none() {
        match store.commit(Commit::of(large())).await {
            Ok(_) => kept += 1,
            Err(error) => failed = Some(error),
        }
    }
    assert_eq!(failed, Some(CommitError::Unknown), "the group whose sync failed may or may not be there");
    assert!(store.unusable().is_some());
    for _ in 0..3 {
        assert!(matches!(store.commit(note()).await, Err(CommitError::Unavailable(_))));
    }
    println!("kept {kept}");
}

#[tokio::test]
async fn after_a_failed_write_nothing_more_is_committed_and_what_was_acknowledged_is_there() {
    let (_folder, path) = place();
    let limited = r#"trap "" XFSZ; ulimit -f 4000; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.arg("-c").arg(limited).arg(std::env::current_exe().unwrap());
    let output = crash::child(command, "space::child_writes_until_the_disk_fails", &path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let kept = text.lines().find_map(|l| l.split("kept ").nth(1)?.parse::<u64>().ok());
    let kept = kept.unwrap_or_else(|| panic!("no count in {text}"));
    assert!(kept > 10);
    let store = open(&path);
    assert!((kept..=kept + 1).contains(&size(&store)), "{kept} acknowledged, {} there", size(&store));
    assert!(matches!(verdict(&store).await, Verdict::Ok { .. }));
}

#[tokio::test]
async fn claims_and_tokens_are_forgotten_some_time_after_their_end_and_not_before() {
    let (_folder, path) = place();
    let clock = FakeClock::at(T0);
    let store = SqliteStore::open(
        &path,
        server_store::OpenOptions::new("example.org", false, Arc::new(SeededEntropy::new(7)), Arc::new(clock.clone())),
    )
    .unwrap();
    let take = |time: Timestamp| {
        let mut one = record("token.issued");
        one.time = time;
        store.commit(Commit::of(one).when(Guard::Unclaimed(claim("jti", "one"))))
    };
    take(T0).await.unwrap();
    // The wall clock alone jumped ahead: nothing that was written says that it is so late.
    clock.set(at(100_000));
    store.tidy().await.unwrap();
    assert!(matches!(take(at(1)).await, Err(CommitError::Lost(_))));
    let mut late = record("decision.made");
    late.time = at(100_000);
    store.commit(Commit::of(late).put(Write::Entry(entry(1, 1)))).await.unwrap();
    store.tidy().await.unwrap();
    take(at(100_000)).await.unwrap();
}

#[tokio::test]
async fn a_record_too_long_to_keep_is_refused_and_costs_nobody_else() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path, options("example.org", false)).unwrap();
    let text = |n: usize| Commit::of(record("decision.made").detail(serde_json::json!({"text": "x".repeat(n)})));
    assert!(matches!(store.commit(text(300_000)).await, Err(CommitError::Unavailable(why)) if why.contains("bytes")));
    store.commit(text(200_000)).await.unwrap();
    assert_eq!(size(&store), 1);
}
