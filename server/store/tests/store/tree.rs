//! The tree off the write path: its roots are those of the leaves, over any end and beginning.

use super::{open, place, size, try_open};
use proto_types::Position;
use rusqlite::Connection;
use server_core::{
    journal::{Frontier, Hash, KeyKind, prove_consistency, verify_consistency, verify_inclusion},
    ports::{Archive, Commit, JournalSigner, Ledger, ReadError, TreeRoot},
};
use server_store::SqliteStore;
use std::path::Path;
use testkit::{
    ledger_law::nouns::{note, record},
    signers::TestLog,
};

#[tokio::test]
async fn roots_are_those_of_the_answered_leaves_and_go_on_after_opening_again() {
    let (_folder, path) = place();
    let mut tree = Frontier::new();
    let mut roots = Vec::new();
    for round in 0..4u64 {
        let store = open(&path);
        if round == 0 {
            assert_eq!(store.root().await.unwrap(), None);
            assert_eq!(store.write_root(None).await.unwrap(), None);
        }
        for _ in 0..=round * 3 {
            tree.append(*store.commit(note()).await.unwrap().leaf().unwrap());
        }
        let root = TreeRoot { size: tree.size(), root: tree.root() };
        // The second time nothing is new: the same root is answered, nothing is written.
        for _ in 0..2 {
            assert_eq!(store.write_root(None).await.unwrap(), Some(root));
        }
        assert_eq!(store.root().await.unwrap(), Some(root));
        roots.push(root);
        assert_eq!(store.roots(0, 100).await.unwrap(), roots);
        assert_eq!(store.roots(root.size - 1, 100).await.unwrap(), [root]);
        // What comes behind the last root is rehashed at the next start.
        tree.append(*store.commit(note()).await.unwrap().leaf().unwrap());
        assert_eq!(size(&store), tree.size());
    }
    let store = open(&path);
    assert_eq!(store.write_root(None).await.unwrap(), Some(TreeRoot { size: tree.size(), root: tree.root() }));
}

fn root_of(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    tree.root()
}

/// So many records in units of 50.
async fn fill(store: &SqliteStore, count: usize) -> Vec<Hash> {
    let before = size(store);
    for _ in 0..count / 50 {
        // A person's name is salted: no two records are alike.
        let one = || record("svid.minted").user(Some("kim@example.org".into()));
        let unit = (1..50).fold(Commit::of(one()), |unit, _| unit.also(one()));
        store.commit(unit).await.unwrap();
    }
    let mut leaves: Vec<Hash> = Vec::new();
    while leaves.len() < count {
        let rows = store.stored(Position(before + leaves.len() as u64), 100).await.unwrap();
        leaves.extend(rows.into_iter().map(|row| row.leaf));
    }
    leaves
}

#[tokio::test]
async fn every_record_is_proven_in_every_tree_that_has_it_and_in_no_other() {
    let (_folder, path) = place();
    let store = open(&path);
    let mut leaves = fill(&store, 200).await;
    store.write_root(None).await.unwrap();
    leaves.extend(fill(&store, 400).await);
    store.write_root(None).await.unwrap();
    drop(store);
    let store = open(&path);
    leaves.extend(fill(&store, 50).await);
    assert_eq!(store.inclusion(Position(0), 650).await.unwrap(), None, "no root over so many was written down");
    for size in [1, 200, 256, 257, 600] {
        let positions: Vec<_> = (0..size).step_by(31).chain([size - 1]).map(Position).collect();
        let root = root_of(&leaves[..size as usize]);
        for (at, path) in positions.iter().zip(store.inclusions(positions.clone(), size).await.unwrap().unwrap()) {
            let leaf = &leaves[at.0 as usize];
            assert!(verify_inclusion(leaf, at.0, size, &path, &root), "{at:?} in {size}");
            assert!(!verify_inclusion(leaf, at.0 + 1, size, &path, &root), "{at:?} in {size}");
        }
        assert_eq!(store.inclusion(Position(size), size).await.unwrap(), None);
        let path = store.consistency(size, 600).await.unwrap().unwrap();
        assert!(verify_consistency(size, &root, 600, &root_of(&leaves[..600]), &path), "{size}");
        assert_eq!(Some(path), prove_consistency(size, 600, &leaves[..600]).unwrap());
    }
    assert_eq!(store.consistency(2, 1).await.unwrap(), None);
    assert_eq!(store.consistency(600, 650).await.unwrap(), None);
}

fn edit(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_tile_that_was_changed_proves_nothing_and_a_lost_one_is_named() {
    let (_folder, path) = place();
    let store = open(&path);
    let leaves = fill(&store, 300).await;
    store.write_root(None).await.unwrap();
    let proven = async |store: &SqliteStore| {
        let path = store.inclusion(Position(7), 300).await.unwrap().unwrap();
        verify_inclusion(&leaves[7], 7, 300, &path, &root_of(&leaves))
    };
    assert!(proven(&store).await);
    drop(store);
    // The full tile of the leaves stands in every path below it; the edge of the tree does not need it.
    edit(&path, "UPDATE journal_tile SET hashes = zeroblob(8192) WHERE level = 0 AND place = 0");
    let store = open(&path);
    assert!(!proven(&store).await);
    drop(store);
    edit(&path, "DELETE FROM journal_tile WHERE level = 0 AND place = 0");
    let store = open(&path);
    let lost = store.inclusion(Position(7), 300).await;
    assert!(matches!(&lost, Err(ReadError::Inconsistent(what)) if what.contains("journal_tile `0/0`")), "{lost:?}");
    drop(store);
    edit(&path, "UPDATE journal_tile SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND place = 1");
    assert!(try_open(&path).is_err(), "the edge of the tree is not the one its root was computed from");
}

#[tokio::test]
async fn a_store_from_before_tiles_gets_them_when_it_is_opened() {
    let (_folder, path) = place();
    let store = open(&path);
    let leaves = fill(&store, 300).await;
    let root = store.write_root(None).await.unwrap();
    drop(store);
    edit(
        &path,
        "DROP TABLE journal_tile; DROP TABLE journal_note; DROP TABLE revoked_token;
         ALTER TABLE journal_head DROP COLUMN start; PRAGMA user_version = 3;
         CREATE TABLE journal_frontier(one INTEGER PRIMARY KEY, size INTEGER NOT NULL, peaks BLOB NOT NULL) STRICT",
    );
    drop(open(&path));
    let store = open(&path);
    assert_eq!(store.write_root(None).await.unwrap(), root);
    let path = store.inclusion(Position(299), 300).await.unwrap().unwrap();
    assert!(verify_inclusion(&leaves[299], 299, 300, &path, &root_of(&leaves)));
}

#[tokio::test]
async fn each_root_is_signed_once_and_again_by_a_key_that_took_over() {
    let (_folder, path) = place();
    let (log, next) = (TestLog::journal(), TestLog::new(7, TestLog::journal().verifier().name(), KeyKind::Log));
    let store = open(&path);
    assert_eq!((store.write_root(Some(&log)).await.unwrap(), store.checkpoint().await.unwrap()), (None, None));
    fill(&store, 50).await;
    store.write_root(None).await.unwrap();
    assert_eq!(store.checkpoint().await.unwrap(), None, "nobody signed");
    let root = store.write_root(Some(&log)).await.unwrap().unwrap();
    let first = log.checkpoint(root).unwrap();
    assert_eq!(store.checkpoint().await.unwrap(), Some(first.clone()));
    drop(store);
    let store = open(&path);
    store.write_root(Some(&log)).await.unwrap();
    assert_eq!(store.checkpoint().await.unwrap(), Some(first.clone()), "the same signature is there once");
    store.write_root(Some(&next)).await.unwrap();
    let both = store.checkpoint().await.unwrap().unwrap();
    assert!(both.verify(log.verifier()).is_ok() && both.verify(next.verifier()).is_ok());
    fill(&store, 50).await;
    let root = store.write_root(Some(&next)).await.unwrap().unwrap();
    let second = next.checkpoint(root).unwrap();
    assert_eq!(store.checkpoints(0, 10).await.unwrap(), [both, second.clone()]);
    assert_eq!(store.checkpoints(50, 10).await.unwrap(), [second]);
}

#[tokio::test]
async fn a_witness_signs_what_was_signed_here_and_nothing_else_is_kept() {
    let (_folder, path) = place();
    let (log, witness) = (TestLog::journal(), TestLog::witness());
    let store = open(&path);
    fill(&store, 50).await;
    let root = store.write_root(Some(&log)).await.unwrap().unwrap();
    fill(&store, 50).await;
    store.write_root(Some(&log)).await.unwrap();
    let note = log.checkpoint(root).unwrap();
    for other in [TreeRoot { root: [3; 32], ..root }, TreeRoot { size: 51, ..root }] {
        let forked = witness.cosign(&log.checkpoint(other).unwrap(), 5);
        assert_eq!(store.keep_cosignatures(forked).await.unwrap(), None, "{other:?}");
    }
    assert_eq!(store.witnessed().await.unwrap(), None);
    let answered = store.keep_cosignatures(witness.cosign(&note, 5)).await.unwrap();
    let kept = store.witnessed().await.unwrap().unwrap();
    assert_eq!(answered.as_ref(), Some(&kept));
    assert_eq!(kept.verify(witness.verifier()).unwrap().time(), Some(5));
    assert!(kept.verify(log.verifier()).is_ok());
}
