//! Snapshots, and what is there after the store was closed and opened.

use super::{
    Store,
    nouns::{
        T0, at, authority, claim, ended, entry, hold, lease, new_entry, node, note, policy, record, target, task,
        task_id,
    },
};
use proto_types::{EntryId, LeaseState, hold::Scope};
use server_core::ports::{Commit, CommitError, Guard, Snapshot, Write};
use std::{collections::BTreeSet, future::Future};

pub async fn a_snapshot_is_the_state_at_its_position(store: Store) {
    let (ledger, feed) = (store.ledger.clone(), store.feed.clone());
    let committing = tokio::spawn(async move {
        for n in 0..200 {
            let one = entry(n, n);
            let said = record("entry.created").detail(serde_json::json!({"id": one.id.as_str()}));
            ledger.commit(new_entry(Commit::of(said), &one)).await.expect("entries differ");
        }
        *feed.size().borrow()
    });
    // Snapshots while the writing goes on: what the journal says up to `at` is what they hold, no more and no less.
    let mut size = store.feed.size();
    loop {
        let snapshot = store.snapshots.load().await.unwrap();
        // A commit is in the store a moment before followers are told.
        size.wait_for(|size| *size >= snapshot.at.0).await.expect("the store is open");
        assert!(held(&snapshot) == said(&store, snapshot.at.0).await, "the snapshot at {:?} is another", snapshot.at);
        if snapshot.at.0 == 200 {
            break;
        }
        size.wait_for(|size| *size > snapshot.at.0).await.expect("the store is open");
    }
    assert_eq!(committing.await.expect("the committer ends"), 200);
}

fn held(snapshot: &Snapshot) -> BTreeSet<EntryId> {
    snapshot.entries.iter().map(|e| e.id.clone()).collect()
}

async fn said(store: &Store, up_to: u64) -> BTreeSet<EntryId> {
    let journal = store.journal().await.unwrap();
    let ids = journal.iter().take(up_to as usize).filter_map(|r| r.detail["id"].as_str());
    ids.map(|id| EntryId::new(id).unwrap()).collect()
}

/// One of everything, and things that are over.
/// Puts something of everything into an empty store.
pub async fn fill(store: &Store) {
    let over = |n, state| {
        let mut lease = lease(n, 1);
        lease.state = state;
        Write::Lease(lease)
    };
    let serial =
        |n: u64, serial: &str| Write::TaskSerial { task: task_id(n), serial: serial.into(), not_after: at(300) };
    let unit = new_entry(note(), &entry(1, 1))
        .put(Write::Node(node(1)))
        .put(Write::Task(task(1)))
        .put(Write::Task(task(2)))
        .put(Write::Task(ended(task(2))))
        .put(serial(1, "5e"))
        .put(serial(2, "6f"))
        .put(Write::Lease(lease(1, 1)))
        .put(Write::RevokedToken { jti: "j1".into(), expires_at: at(300) })
        .put(over(2, LeaseState::Revoking))
        .put(over(3, LeaseState::Lingering))
        .put(over(4, LeaseState::Revoked))
        .put(over(5, LeaseState::Expired))
        .put(over(6, LeaseState::Void))
        .put(Write::Authority(authority("k1")))
        .put(Write::Authority(authority("k2")))
        .put(Write::DropAuthority("k2".into()))
        .put(Write::Target(target("orders-db")))
        .put(Write::Target(target("gone")))
        .put(Write::DropTarget("gone".into()))
        .put(Write::Policy(policy("default")))
        .put(Write::Policy(policy("gone")))
        .put(Write::DropPolicy("gone".into()))
        .put(Write::Hold(hold(1, Scope::User("kim".into()))))
        .put(Write::Hold(hold(2, Scope::All)))
        .put(Write::DropHold(hold(2, Scope::All).id));
    store.keep(unit).await;
}

async fn check(store: &Store) {
    let all = store.snapshots.load().await.unwrap();
    assert_eq!(all.at.0, store.size());
    assert_eq!(all.entries, [entry(1, 1)]);
    assert_eq!(all.nodes, [node(1)]);
    assert_eq!(all.tasks, [task(1)]);
    assert_eq!(all.serials, [(task_id(1), "5e".to_string(), at(300))]);
    assert_eq!(all.revoked_tokens, [("j1".to_string(), at(300))]);
    let leases: Vec<_> = all.leases.iter().map(|l| l.state).collect();
    assert_eq!(leases, [LeaseState::Intended, LeaseState::Revoking, LeaseState::Lingering]);
    assert_eq!(all.leases.first().map(AsRef::as_ref), Some(&lease(1, 1)));
    assert_eq!(all.authorities, [authority("k1")]);
    assert_eq!(all.targets, [target("orders-db")]);
    assert_eq!(all.policies, [policy("default")]);
    assert_eq!(all.holds, [hold(1, Scope::User("kim".into()))]);
}

pub async fn a_snapshot_holds_what_lives_and_nothing_that_is_over(store: Store) {
    fill(&store).await;
    check(&store).await;
}

pub async fn what_was_durable_is_there_after_opening_again<F, Fut>(make: &F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Store>,
{
    let first = make("again").await;
    fill(&first).await;
    for _ in 0..20 {
        first.keep(note()).await;
    }
    first.keep(note().when(Guard::Unclaimed(claim("jti", "one")))).await;
    let (journal, meta) = (first.journal().await.unwrap(), first.snapshots.meta());
    assert_eq!((meta.trust_domain.as_str(), meta.clock_high_water), ("example.org", T0));
    assert!(meta.store_id.len() >= 5 && meta.store_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    drop(first);

    let again = make("again").await;
    assert_eq!(again.journal().await.unwrap(), journal);
    assert_eq!(again.snapshots.meta(), meta);
    check(&again).await;
    let taken = again.commit(note().when(Guard::Unclaimed(claim("jti", "one")))).await;
    assert!(matches!(taken, Err(CommitError::Lost(_))), "a claim was forgotten");
    assert_eq!(again.keep(note()).await.first().0, journal.len() as u64, "numbering did not go on");

    let other = make("another").await;
    assert_ne!(other.snapshots.meta().store_id, meta.store_id, "two stores have one id");
}
