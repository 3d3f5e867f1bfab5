//! A primary that is lost, and its standby in its place: what was acknowledged is there, or it is known that it is not; and
//! copies of a database, of which one must not run. Faults F17, F18 and F34.

use futures_util::future::join_all;
use proto_types::{Position, Record, SystemClock};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use server_core::ports::{Commit, CommitError, Feed as _, Ledger as _, Snapshots as _};
use server_store::{Files, OpenOptions, PostgresConfig, PostgresError, PostgresStore, Store as _};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use testkit::{fakes::SeededEntropy, ledger_law::nouns::T0, poll, postgres::PostgresFixture};

const SOON: Duration = Duration::from_secs(30);

/// One server's store, that remembers what it saw in `folder`; on whichever of the hosts takes writes.
async fn open(hosts: &[&PostgresFixture], folder: &Path, accept: bool) -> Result<Arc<PostgresStore>, PostgresError> {
    let list: Vec<_> = hosts.iter().map(|pg| format!("127.0.0.1:{}", pg.port())).collect();
    let files = Files { password: Some(hosts[0].manager_password_file()), ..Files::default() };
    let place = PostgresConfig::parse(&format!("postgres://errand@{}/house", list.join(",")), files).unwrap();
    let options = OpenOptions::new("example.org", false, Arc::new(SeededEntropy::new(3)), Arc::new(SystemClock));
    PostgresStore::open(place, options.remember_in(folder.join("seen.json")).accept_rollback(accept)).await
}

/// A unit that can be told from all others.
fn marked(n: u64) -> Commit {
    Commit::of(Record::new(T0, "server.started").detail(json!({ "n": n })))
}

/// The marks in a journal.
async fn marks(store: &PostgresStore) -> BTreeSet<u64> {
    let (mut found, mut at) = (BTreeSet::new(), 0);
    while at < *store.size().borrow() {
        let page = store.from(Position(at), 500).await.unwrap();
        found.extend(page.iter().filter_map(|(_, record)| record.detail.get("n")?.as_u64()));
        at += page.len() as u64;
    }
    found
}

/// With a synchronous standby nothing that was acknowledged is lost, whenever the primary dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_a_synchronous_standby_takes_over() {
    for seed in 0..3 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut primary = PostgresFixture::start().await;
        primary.store_url("house").await;
        let standby = primary.standby().await;
        primary.waits_for_standby().await;
        let folder = tempfile::tempdir().unwrap();
        let store = open(&[&primary, &standby], folder.path(), false).await.unwrap();

        // Four callers commit without a pause; in the midst of it the primary is gone.
        let dies_at = random.random_range(5..60);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let callers = (0..4u64).map(|caller| {
            let (store, tell) = (store.clone(), tell.clone());
            async move {
                let mut outcomes = Vec::new();
                for n in 0..60 {
                    let mark = caller * 1000 + n;
                    let outcome = store.commit(marked(mark)).await;
                    let _ = tell.send(());
                    outcomes.push((mark, outcome.map(|durable| durable.first().0)));
                }
                outcomes
            }
        });
        let fails_over = async {
            for _ in 0..dies_at {
                told.recv().await.unwrap();
            }
            primary.stop();
            standby.promote().await;
        };
        let (outcomes, ()) = tokio::join!(join_all(callers), fails_over);

        let there = marks(&store).await;
        let (mut kept, mut positions) = (0, BTreeSet::new());
        for (mark, outcome) in outcomes.into_iter().flatten() {
            match outcome {
                Ok(position) => {
                    assert!(there.contains(&mark), "seed {seed}: {mark} was acknowledged and is lost");
                    assert!(positions.insert(position), "seed {seed}: two at {position}");
                    kept += 1;
                }
                Err(CommitError::Unknown) => {}
                Err(error) => assert!(!there.contains(&mark), "seed {seed}: {mark} was refused ({error}) and is there"),
            }
        }
        assert!(kept >= dies_at, "seed {seed}: {kept}");
        assert!(store.unusable().is_none());
        let again = async || store.commit(marked(9999)).await.is_ok();
        poll::until("it goes on with the new primary", SOON, again).await;
        // And a server that starts now finds what it remembers.
        drop(store);
        open(&[&primary, &standby], folder.path(), false).await.expect("nothing is missed");
    }
}

/// A primary with a journal, and its standby that lacks the end of it and was made the primary; what two servers remember.
async fn lossy() -> (PostgresFixture, PostgresFixture, Arc<PostgresStore>, [TempDir; 2]) {
    let mut primary = PostgresFixture::start().await;
    primary.store_url("house").await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut standby = primary.standby().await;
    let store = open(&[&primary, &standby], folders[0].path(), false).await.unwrap();
    store.commit(marked(0)).await.unwrap();
    primary.streams().await;
    drop(open(&[&primary, &standby], folders[1].path(), false).await.unwrap());
    standby.stop();
    for n in 1..4 {
        store.commit(marked(n)).await.unwrap();
    }
    primary.stop();
    standby.resume().await;
    standby.promote().await;
    (primary, standby, store, folders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lacks_what_was_acknowledged_is_found_out_by_who_runs_and_by_who_starts() {
    let (primary, standby, store, [folder, other]) = lossy().await;
    let refused = async || store.commit(marked(7)).await.is_err() && store.unusable().is_some();
    poll::until("nothing more is written", SOON, refused).await;
    assert!(store.unusable().unwrap().contains("lost what was acknowledged"));
    drop(store);

    let hosts = [&primary, &standby];
    let found = async || open(&hosts, folder.path(), false).await.err();
    // What was seen last is written down when the store closes, a moment after it is let go.
    poll::until("a start is refused", SOON, async || matches!(found().await, Some(PostgresError::WentBack { .. })))
        .await;
    let why = found().await.unwrap().to_string();
    assert!(why.contains("records, and had") && why.contains("errand store reconcile"), "{why}");
    let size: i64 = standby.ask_on("house", "SELECT size FROM errand.journal_head").await;

    // Somebody decides; from then on it is another epoch, of which others need not be told.
    let accepted = open(&hosts, folder.path(), true).await.unwrap();
    assert_eq!((accepted.meta().epoch, *accepted.size().borrow()), (2, u64::try_from(size).unwrap()));
    accepted.commit(marked(8)).await.unwrap();
    let second = open(&hosts, other.path(), false).await.unwrap();
    assert_eq!(second.meta().epoch, 2);
    drop((accepted, second));
    let again = open(&hosts, folder.path(), true).await.unwrap();
    assert_eq!(again.meta().epoch, 2, "there is nothing left to accept");
}

/// F34: the store was dumped, and put in twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_put_in_elsewhere_waits_until_somebody_says_that_the_other_is_gone() {
    let ours = PostgresFixture::start().await;
    ours.store_url("house").await;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&[&ours], folder.path(), false).await.unwrap();
    store.commit(marked(0)).await.unwrap();
    drop(store);
    let clone = PostgresFixture::start().await;
    clone.store_url("house").await;
    let tool = |pg: &PostgresFixture, name: &str| {
        let mut command = std::process::Command::new(pg.tool(name));
        command.args([
            "-h",
            &pg.socket_dir().display().to_string(),
            "-p",
            &pg.port().to_string(),
            "-U",
            "postgres",
            "house",
        ]);
        command
    };
    let dump = tool(&ours, "pg_dump").output().unwrap();
    assert!(dump.status.success(), "{dump:?}");
    let file = clone.put("dump.sql", &String::from_utf8(dump.stdout).unwrap());
    let put_in = tool(&clone, "psql").args(["-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file).output().unwrap();
    assert!(put_in.status.success(), "{put_in:?}");

    let elsewhere = tempfile::tempdir().unwrap();
    let refused = open(&[&clone], elsewhere.path(), false).await.err();
    assert!(
        matches!(&refused, Some(PostgresError::WentBack { why, .. }) if why.contains("database system")),
        "{refused:?}"
    );
    let accepted = open(&[&clone], elsewhere.path(), true).await.unwrap();
    assert_eq!(accepted.meta().epoch, 2);
    drop(accepted);
    open(&[&clone], elsewhere.path(), false).await.expect("it lies there now");
    // The first one is where it was, and whoever saw the other is told apart by the epoch.
    open(&[&ours], folder.path(), false).await.expect("the one that was there first");
    let confused = open(&[&ours], elsewhere.path(), false).await.err();
    assert!(
        matches!(&confused, Some(PostgresError::WentBack { why, .. }) if why.contains("epoch 1, and was at 2")),
        "{confused:?}"
    );
}
