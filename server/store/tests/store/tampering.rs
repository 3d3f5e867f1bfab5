//! Hands and bits in the file: what was changed is named, and a damaged store is never made anew.

use super::{open, place, try_open, try_verdict, verdict};
use proto_types::{Entropy, Position};
use rusqlite::{Connection, params};
use server_core::{
    journal::{Verdict, leaf_hash},
    ports::{Feed, Ledger, ReadError, Snapshots},
};
use server_store::OpenError;
use std::{fs, path::Path};
use testkit::{
    fakes::SeededEntropy,
    ledger_law::nouns::{entry, new_entry, note, record},
};

/// Thirty records with roots over ten, twenty and thirty; then closed.
async fn written(path: &Path) {
    let store = open(path);
    for n in 0..30 {
        let unit = server_core::ports::Commit::of(record("entry.created").user(Some(format!("user {n}"))));
        store.commit(new_entry(unit, &entry(n, n))).await.unwrap();
        if n % 10 == 9 {
            store.write_root(None).await.unwrap();
        }
    }
}

fn body(path: &Path, position: u64) -> Vec<u8> {
    let conn = Connection::open(path).unwrap();
    conn.query_row("SELECT body FROM journal WHERE position = ?1", [position], |row| row.get(0)).unwrap()
}

fn edit(path: &Path, sql: &str, values: impl rusqlite::Params) {
    assert!(Connection::open(path).unwrap().execute(sql, values).unwrap() > 0);
}

async fn named(path: &Path) -> u64 {
    match verdict(&open(path)).await {
        Verdict::Bad { position, .. } => position.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_untouched_journal_verifies_to_the_root_written_down() {
    let (_folder, path) = place();
    written(&path).await;
    assert!(matches!(verdict(&open(&path)).await, Verdict::Ok { size: 30, .. }));
}

#[tokio::test]
async fn a_changed_record_is_named_by_its_position() {
    let (_folder, path) = place();
    written(&path).await;
    let mut changed = body(&path, 17);
    let last = changed.len() - 3;
    changed[last] ^= 1;
    edit(&path, "UPDATE journal SET body = ?1 WHERE position = 17", [changed]);
    assert_eq!(named(&path).await, 17);
}

#[tokio::test]
async fn a_changed_name_of_a_person_is_named_and_an_erased_one_is_not() {
    let (_folder, path) = place();
    written(&path).await;
    edit(&path, "DELETE FROM journal_private WHERE position = 4", []);
    assert!(matches!(verdict(&open(&path)).await, Verdict::Ok { size: 30, .. }));
    edit(&path, "UPDATE journal_private SET value = 'someone else' WHERE position = 5", []);
    assert_eq!(named(&path).await, 5);
}

#[tokio::test]
async fn a_record_rewritten_with_its_leaf_is_told_to_the_interval() {
    let (_folder, path) = place();
    written(&path).await;
    let (of_3, leaf) = (body(&path, 3), leaf_hash(&body(&path, 3)));
    edit(&path, "UPDATE journal SET body = ?1, leaf = ?2 WHERE position = 14", params![of_3, leaf]);
    edit(&path, "DELETE FROM journal_private WHERE position = 14", []);
    assert_eq!(verdict(&open(&path)).await, Verdict::Rewritten { from: 10, to: 20 });
}

#[tokio::test]
async fn a_removed_record_is_named_and_no_follower_is_handed_the_gap() {
    let (_folder, path) = place();
    written(&path).await;
    edit(&path, "DELETE FROM journal WHERE position = 9", []);
    let store = open(&path);
    assert!(matches!(Feed::from(&*store, Position(5), 10).await, Err(ReadError::Inconsistent(_))));
    assert_eq!(Feed::from(&*store, Position(10), 10).await.unwrap().len(), 10);
    drop(store);
    assert_eq!(named(&path).await, 9);
}

#[tokio::test]
async fn what_lies_behind_the_last_root_is_checked_before_the_store_opens() {
    let (_folder, path) = place();
    written(&path).await;
    let store = open(&path);
    store.commit(note()).await.unwrap();
    drop(store);
    let damaged = |what: &str| match try_open(&path).map(drop) {
        Err(OpenError::Damaged { what: said, .. }) => assert!(said.contains(what), "{said}"),
        other => panic!("{other:?}"),
    };
    let good = fs::read(&path).unwrap();
    edit(&path, "UPDATE journal SET body = x'01' WHERE position = 30", []);
    damaged("position 30");
    fs::write(&path, &good).unwrap();
    edit(&path, "DELETE FROM journal WHERE position = 30", []);
    damaged("31");
    fs::write(&path, &good).unwrap();
    edit(&path, "UPDATE journal_head SET size = 29", []);
    damaged("29");
    fs::write(&path, &good).unwrap();
    edit(&path, "UPDATE journal_root SET root = zeroblob(32) WHERE size = 30", []);
    damaged("root");
    fs::write(&path, &good).unwrap();
    edit(&path, "DELETE FROM meta", []);
    damaged("head");
    fs::write(&path, &good).unwrap();
    open(&path);
}

#[tokio::test]
async fn flipped_bytes_are_refused_or_named_and_never_make_another_journal() {
    let (_folder, path) = place();
    written(&path).await;
    let good = fs::read(&path).unwrap();
    let whole = verdict(&open(&path)).await;
    // Most of a small file is empty space, where a flip changes nothing: aim at what is used.
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let random = SeededEntropy::new(10);
    let (mut refused, mut named) = (0, 0);
    for _ in 0..200 {
        let mut draw = [0; 9];
        random.fill(&mut draw);
        let at = used[usize::from_le_bytes(draw[..8].try_into().unwrap()) % used.len()];
        let mut flipped = good.clone();
        flipped[at] ^= draw[8] | 1;
        fs::write(&path, &flipped).unwrap();
        let _ = fs::remove_file(super::beside(&path, "-wal"));
        let Ok(store) = try_open(&path) else {
            refused += 1;
            assert!(fs::read(&path).unwrap() == flipped, "byte {at}: a refused file was changed");
            continue;
        };
        match try_verdict(&store).await {
            Some(found) if found == whole => {}
            Some(Verdict::Ok { .. }) => panic!("byte {at}: another journal verified"),
            _ => named += 1,
        }
        // Rows of the state carry no hash: they are read, or refused as unreadable.
        let _ = store.load().await;
    }
    assert!(refused > 10 && named > 10, "{refused} refused, {named} named");
}
