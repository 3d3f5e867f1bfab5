//! Both stores against the law of their ports, and against what disks, crashes and hands do to files.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

mod crash;
mod law;
mod opening;
mod postgres;
mod promotion;
mod pruning;
mod space;
mod tampering;
mod tree;
mod wire;

use proto_types::Position;
use server_core::{
    journal::{Verdict, Verifier},
    ports::{Archive, Feed},
};
use server_store::{OpenError, OpenOptions, SqliteStore};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tempfile::TempDir;
use testkit::{
    fakes::{FakeClock, SeededEntropy},
    ledger_law::nouns::T0,
};

/// Options of a server's store for `trust_domain`; each call has randomness of its own.
fn options(trust_domain: &str, dev: bool) -> OpenOptions {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let entropy = SeededEntropy::new(SEED.fetch_add(1, Ordering::Relaxed));
    OpenOptions::new(trust_domain, dev, Arc::new(entropy), Arc::new(FakeClock::at(T0)))
}

fn try_open(path: &Path) -> Result<Arc<SqliteStore>, OpenError> {
    SqliteStore::open(path, options("example.org", false))
}

fn open(path: &Path) -> Arc<SqliteStore> {
    try_open(path).expect("the store opens")
}

/// A folder of its own and the path of a store in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data/errand.db");
    (folder, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Verifies the whole journal with every root there is.
async fn verdict(store: &SqliteStore) -> Verdict {
    try_verdict(store).await.expect("the journal is read")
}

/// The same; `None` when rows cannot be read at all.
async fn try_verdict(store: &SqliteStore) -> Option<Verdict> {
    let pruned = store.pruned().await.ok()?;
    let mut from = pruned.size();
    let mut verifier = Verifier::behind(pruned, store.roots(0, 4096).await.ok()?);
    loop {
        let page = store.stored(Position(from), 100).await.ok()?;
        let Some(last) = page.last() else { break };
        from = last.position.0 + 1;
        if !page.iter().all(|record| verifier.feed(record)) {
            break;
        }
    }
    Some(verifier.finish())
}

fn size(store: &SqliteStore) -> u64 {
    *Feed::size(store).borrow()
}
