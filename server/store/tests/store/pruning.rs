//! Records that are let go: nobody reads them, the rest verifies, and who only moves the beginning is found out.

use super::{open, place, size, try_open, verdict};
use proto_types::{Position, Timestamp};
use rusqlite::Connection;
use server_core::{
    journal::{Verdict, pruning, verify_consistency},
    ports::{Archive, Commit, CommitError, Feed, Filter, Ledger, ReadError, Write},
};
use server_store::{OpenError, SqliteStore};
use std::{path::Path, time::Duration};
use testkit::ledger_law::nouns::{at, record};

const KEEP: Duration = Duration::from_secs(86_400 * 30);

/// Records a minute apart, each of a person, with a root over every fifty of them.
async fn filled(path: &Path, count: i64) -> std::sync::Arc<SqliteStore> {
    let store = open(path);
    for n in 0..count {
        let one = record("decision.made").user(Some(format!("user {n}"))).workload("spiffe://example.org/w");
        store.commit(Commit::of(proto_types::Record { time: at(n * 60), ..one })).await.unwrap();
        if n % 50 == 49 {
            store.write_root(None).await.unwrap();
        }
    }
    store.write_root(None).await.unwrap();
    store
}

fn prune(before: u64) -> Commit {
    let before = Position(before);
    Commit::of(pruning(before, KEEP, at(0))).put(Write::Prune(before))
}

async fn found(store: &SqliteStore, filter: Filter) -> Vec<u64> {
    store.search(&filter, None, 4096).await.unwrap().iter().map(|(position, _)| position.0).collect()
}

fn user(n: u64) -> Filter {
    Filter { user: Some(format!("user {n}")), ..Filter::default() }
}

fn rows(path: &Path, sql: &str) -> u64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn what_was_let_go_is_read_by_nobody_and_what_is_kept_verifies() {
    let (_folder, path) = place();
    let store = filled(&path, 700).await;
    assert_eq!(store.pruned().await.unwrap().size(), 0);
    store.commit(prune(600)).await.unwrap();
    store.write_root(None).await.unwrap();
    // A server that ends here has said that they are gone, and deletes their rows when it is back.
    drop(store);
    assert_eq!(rows(&path, "SELECT count(*) FROM journal"), 701);
    let store = open(&path);
    for swept in [false, true] {
        let gone = Err(ReadError::Pruned(Position(600)));
        for from in [0, 599] {
            assert_eq!(Feed::from(&*store, Position(from), 10).await.map(|r| r.len()), gone, "swept: {swept}");
            assert_eq!(store.stored(Position(from), 10).await.map(|r| r.len()), gone, "swept: {swept}");
        }
        assert_eq!(Feed::from(&*store, Position(600), 10).await.unwrap().len(), 10);
        assert_eq!(store.stored(Position(600), 10).await.unwrap().len(), 10);
        assert_eq!(found(&store, user(599)).await, [0; 0]);
        assert_eq!(found(&store, user(600)).await, [600]);
        assert_eq!(found(&store, Filter { kind: Some("decision.made".into()), ..Filter::default() }).await.len(), 100);
        let between = |from, to| Filter { from: Some(at(from)), to: Some(at(to)), ..Filter::default() };
        assert_eq!(found(&store, between(0, 605 * 60)).await.last(), Some(&600));
        assert_eq!(store.pruned().await.unwrap().size(), 600);
        assert!(matches!(verdict(&store).await, Verdict::Ok { size: 701, .. }));
        store.sweep().await.unwrap();
    }
    drop(store);
    // Nothing of them is left in any table, nor in the file.
    assert_eq!(rows(&path, "SELECT count(*) FROM journal"), 101);
    assert_eq!(rows(&path, "SELECT count(*) FROM journal_private"), 100);
    assert_eq!(rows(&path, "SELECT count(*) FROM journal_key WHERE position < 600"), 0);
    assert_eq!(rows(&path, "SELECT count(*) FROM journal_root WHERE size < 600"), 0);
    let file = std::fs::read(&path).unwrap();
    let holds = |text: &str| file.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(holds("user 650") && !holds("user 450"));

    let store = open(&path);
    assert_eq!((size(&store), store.pruned().await.unwrap().size()), (701, 600));
    assert!(matches!(verdict(&store).await, Verdict::Ok { size: 701, .. }));
    // The tree goes on over what is gone: an old root is continued, and it is pruned again.
    store.commit(prune(700)).await.unwrap();
    store.write_root(None).await.unwrap();
    store.sweep().await.unwrap();
    assert!(matches!(verdict(&store).await, Verdict::Ok { size: 702, .. }));
}

#[tokio::test]
async fn that_an_old_root_is_continued_is_proven_when_its_records_are_gone() {
    let (_folder, path) = place();
    let store = filled(&path, 300).await;
    let old = store.roots(0, 1).await.unwrap().remove(0);
    store.commit(prune(290)).await.unwrap();
    let new = store.write_root(None).await.unwrap().unwrap();
    store.sweep().await.unwrap();
    assert!(old.size < 290 && store.roots(0, 1).await.unwrap().remove(0).size >= 290);
    let path = store.consistency(old.size, new.size).await.unwrap().unwrap();
    assert!(verify_consistency(old.size, &old.root, new.size, &new.root, &path));
}

#[tokio::test]
async fn the_beginning_only_rises_and_not_beyond_the_newest_root() {
    let (_folder, path) = place();
    let store = filled(&path, 100).await;
    store.commit(prune(40)).await.unwrap();
    for not in [40, 39, 0, 101, u64::MAX] {
        assert!(matches!(store.commit(prune(not)).await, Err(CommitError::Unavailable(_))), "{not}");
    }
    assert_eq!(size(&store), 101, "nor is it said");
    store.commit(prune(41)).await.unwrap();
}

#[tokio::test]
async fn how_many_are_old_is_told_by_time_and_never_one_too_many() {
    let (_folder, path) = place();
    let store = filled(&path, 100).await;
    let older = async |time: Timestamp| store.older_than(time).await.unwrap().0;
    assert_eq!(older(at(0)).await, 0);
    assert_eq!(older(at(50 * 60)).await, 50);
    assert_eq!(
        older(at(50 * 60 + 29)).await,
        50,
        "record 50 was written half a minute before, and may have followed a later one"
    );
    assert_eq!(older(at(50 * 60 + 31)).await, 51);
    assert_eq!(older(at(1_000_000)).await, 100);
    store.commit(prune(70)).await.unwrap();
    store.sweep().await.unwrap();
    assert_eq!(older(at(50 * 60)).await, 70, "none of those that are kept");
}

#[tokio::test]
async fn who_only_moves_the_beginning_is_found_out_when_the_store_opens() {
    let (_folder, path) = place();
    let store = filled(&path, 100).await;
    store.commit(prune(40)).await.unwrap();
    store.write_root(None).await.unwrap();
    drop(store);
    let good = std::fs::read(&path).unwrap();
    for moved in [0, 39, 41, 101] {
        Connection::open(&path).unwrap().execute("UPDATE journal_head SET start = ?1", [moved]).unwrap();
        match try_open(&path).map(drop) {
            Err(OpenError::Damaged { what, .. }) => assert!(what.contains(&format!("position {moved} ")), "{what}"),
            other => panic!("{moved}: {other:?}"),
        }
        std::fs::write(&path, &good).unwrap();
    }
    open(&path);
}
