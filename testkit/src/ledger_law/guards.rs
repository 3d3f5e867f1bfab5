//! Each guard, kept and lost, and everything that is taken at most once.

use super::{
    Store,
    nouns::{at, claim, ended, entry, hold, join_token, lease, lease_id, new_entry, node, note, record, task, task_id},
};
use proto_types::{
    EntryId, Epoch, LeaseState, SpiffeId, TaskState,
    hold::{Scope, Stopped},
};
use server_core::ports::{Commit, CommitError, Guard, Write, entry_fingerprint};

impl Store {
    async fn kept(&self, guard: Guard) {
        let outcome = self.commit(note().when(guard.clone())).await;
        assert!(outcome.is_ok(), "{guard:?} should be kept: {outcome:?}");
    }
    async fn lost(&self, guard: Guard) {
        let outcome = self.commit(note().when(guard.clone())).await;
        assert!(matches!(&outcome, Err(CommitError::Lost(lost)) if *lost == guard), "{guard:?}: {outcome:?}");
    }
}

pub async fn every_guard_is_kept_and_lost(store: Store) {
    let live = Guard::TaskLive;
    store.lost(live(task_id(1), Epoch(1))).await;
    store.keep(note().put(Write::Task(task(1)))).await;
    store.kept(live(task_id(1), Epoch(1))).await;
    store.lost(live(task_id(1), Epoch(2))).await;
    store.keep(note().put(Write::Task(ended(task(1))))).await;
    for epoch in [1, 2] {
        store.lost(live(task_id(1), Epoch(epoch))).await;
    }
    let mut suspended = task(2);
    suspended.state = TaskState::Suspended;
    store.keep(note().put(Write::Task(suspended))).await;
    store.lost(live(task_id(2), Epoch(1))).await;

    entries(&store).await;
    leases(&store).await;
    nodes(&store).await;
    tokens(&store).await;
    fences(&store).await;
    holds(&store).await;
}

async fn entries(store: &Store) {
    let there = |id: EntryId, revision| Guard::EntryAt(id, revision);
    let (one, like) = (entry(1, 1), entry_fingerprint(&entry(1, 1)));
    store.kept(there(one.id.clone(), 0)).await;
    store.lost(there(one.id.clone(), 1)).await;
    store.keep(new_entry(note(), &one)).await;
    store.lost(there(one.id.clone(), 0)).await;
    store.kept(there(one.id.clone(), 1)).await;
    store.lost(there(one.id.clone(), 2)).await;
    // The entry itself may keep its own identity; another may not take it.
    store.kept(Guard::EntryUnique(one.id.clone(), like)).await;
    store.lost(Guard::EntryUnique(entry(2, 1).id, like)).await;
    store.kept(Guard::EntryUnique(entry(2, 2).id, entry_fingerprint(&entry(2, 2)))).await;
    store.keep(note().put(Write::DropEntry(one.id.clone()))).await;
    store.kept(Guard::EntryUnique(entry(2, 1).id, like)).await;
    store.kept(there(one.id, 0)).await;
}

async fn leases(store: &Store) {
    let is = |state| Guard::LeaseIn(lease_id(1), state);
    store.lost(is(LeaseState::Intended)).await;
    store.keep(note().put(Write::Lease(lease(1, 1)))).await;
    store.kept(is(LeaseState::Intended)).await;
    store.lost(is(LeaseState::Handed)).await;
    let mut handed = lease(1, 1);
    handed.state = LeaseState::Handed;
    store.keep(note().when(is(LeaseState::Intended)).put(Write::Lease(handed))).await;
    store.kept(is(LeaseState::Handed)).await;
    store.lost(is(LeaseState::Intended)).await;
}

async fn nodes(store: &Store) {
    let serial = |id: &SpiffeId, serial: &str| Guard::NodeSerial(id.clone(), serial.into());
    let exactly = |id: &SpiffeId, serial: &str, next: Option<&str>| {
        Guard::NodeAs(id.clone(), serial.into(), next.map(String::from))
    };
    let mut one = node(1);
    store.lost(serial(&one.id, "a1")).await;
    store.lost(exactly(&one.id, "a1", Some("b1"))).await;
    store.keep(note().put(Write::Node(one.clone()))).await;
    store.kept(serial(&one.id, "a1")).await;
    store.kept(serial(&one.id, "b1")).await;
    store.lost(serial(&one.id, "c1")).await;
    store.lost(serial(&node(2).id, "a1")).await;
    store.kept(exactly(&one.id, "a1", Some("b1"))).await;
    for (current, next) in [("a1", None), ("a1", Some("c1")), ("b1", Some("b1")), ("b1", None)] {
        store.lost(exactly(&one.id, current, next)).await;
    }
    one.next_serial = None;
    store.keep(note().put(Write::Node(one.clone()))).await;
    store.lost(serial(&one.id, "b1")).await;
    store.kept(exactly(&one.id, "a1", None)).await;
    store.lost(exactly(&one.id, "a1", Some("b1"))).await;
    one.banned = true;
    store.keep(note().put(Write::Node(one.clone()))).await;
    store.lost(serial(&one.id, "a1")).await;
    store.lost(exactly(&one.id, "a1", None)).await;
    store.keep(note().put(Write::DropNode(one.id.clone()))).await;
    store.lost(serial(&one.id, "a1")).await;
}

async fn holds(store: &Store) {
    let of = task(1);
    let free = |work: Stopped<'_>| Guard::NoHold(work.keys());
    let (user, all) = (hold(1, Scope::User("user-1@example.org".into())), hold(2, Scope::All));
    store.kept(free(Stopped::task(&of))).await;
    store.lost(Guard::Held(user.id)).await;
    store.keep(note().put(Write::Hold(user.clone()))).await;
    store.kept(Guard::Held(user.id)).await;
    store.lost(free(Stopped::task(&of))).await;
    // Another user's work on the same node goes on.
    store.kept(free(Stopped::task(&task(2)))).await;
    store.keep(note().put(Write::Hold(all.clone()))).await;
    store.lost(free(Stopped::task(&task(2)))).await;
    store.keep(note().when(Guard::Held(all.id)).put(Write::DropHold(all.id))).await;
    store.lost(Guard::Held(all.id)).await;
    store.kept(free(Stopped::task(&task(2)))).await;
    store.lost(free(Stopped::task(&of))).await;
    store.keep(note().put(Write::DropHold(user.id))).await;
    store.kept(free(Stopped::task(&of))).await;
}

async fn tokens(store: &Store) {
    let unrevoked = |jti: &str| Guard::TokenUnrevoked(jti.into());
    store.kept(unrevoked("one")).await;
    store.keep(note().when(unrevoked("one")).put(Write::RevokedToken { jti: "one".into(), expires_at: at(300) })).await;
    store.lost(unrevoked("one")).await;
    store.kept(unrevoked("two")).await;
}

async fn fences(store: &Store) {
    let raise = |epoch| Write::Fence { job: "rotator", epoch: Epoch(epoch), holder: "here".into() };
    store.kept(Guard::Fence("rotator", Epoch(0))).await;
    store.keep(note().when(Guard::Fence("rotator", Epoch(0))).put(raise(1))).await;
    store.kept(Guard::Fence("rotator", Epoch(1))).await;
    store.lost(Guard::Fence("rotator", Epoch(0))).await;
    store.kept(Guard::Fence("signer", Epoch(0))).await;
    // Who takes the job over ends the turn of who had it.
    store.keep(note().when(Guard::Fence("rotator", Epoch(1))).put(raise(2))).await;
    store.lost(Guard::Fence("rotator", Epoch(1))).await;
    assert!(store.commit(note().put(raise(2))).await.is_err(), "an epoch only rises");
}

pub async fn claims_of_different_kinds_do_not_meet(store: Store) {
    store.kept(Guard::Unclaimed(claim("jti", "same"))).await;
    store.kept(Guard::Unclaimed(claim("approval", "same"))).await;
    store.lost(Guard::Unclaimed(claim("jti", "same"))).await;
    store.kept(Guard::Unclaimed(claim("jti", "other"))).await;
    // Nothing that was put together from both ever equals another pair.
    store.kept(Guard::Unclaimed(claim("jt", "isame"))).await;
}

/// Commits the same kind of unit from 32 tasks at once; how many were kept?
async fn race(store: &Store, unit: impl Fn(u64) -> Commit) -> usize {
    let start = |n| {
        let (ledger, unit) = (store.ledger.clone(), unit(n));
        tokio::spawn(async move { ledger.commit(unit).await })
    };
    let running: Vec<_> = (0..32).map(start).collect();
    let mut kept = 0;
    for one in running {
        match one.await.expect("a committer ends") {
            Ok(_) => kept += 1,
            Err(CommitError::Lost(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    kept
}

pub async fn of_many_claims_at_once_one_wins(store: Store) {
    assert_eq!(race(&store, |_| note().when(Guard::Unclaimed(claim("jti", "one")))).await, 1);
    assert_eq!(race(&store, |n| note().when(Guard::Unclaimed(claim("jti", &format!("{n}"))))).await, 32);
    assert_eq!(store.size(), 33);
}

pub async fn a_join_token_is_taken_once_and_not_when_expired(store: Store) {
    let (one, two) = (join_token(1), join_token(2));
    store.lost(Guard::JoinToken(one.digest.clone())).await;
    store.keep(note().put(Write::JoinToken(one.clone())).put(Write::JoinToken(two.clone()))).await;
    assert_eq!(store.archive.join_token(&one.digest).await.unwrap(), Some(one.clone()));
    assert_eq!(race(&store, |_| note().when(Guard::JoinToken(one.digest.clone()))).await, 1);
    assert_eq!(store.archive.join_token(&one.digest).await.unwrap(), None);
    let when = |seconds| {
        let mut attested = record("node.attested");
        attested.time = at(seconds);
        Commit::of(attested).when(Guard::JoinToken(two.digest.clone()))
    };
    assert!(matches!(store.commit(when(600)).await, Err(CommitError::Lost(_))), "an expired token was taken");
    store.keep(when(599)).await;
}

pub async fn of_many_equal_entries_at_once_one_is_made(store: Store) {
    assert_eq!(race(&store, |n| new_entry(note(), &entry(n, 7))).await, 1);
    assert_eq!(race(&store, |n| new_entry(note(), &entry(100 + n, 100 + n))).await, 32);
    assert_eq!(store.snapshots.load().await.unwrap().entries.len(), 33);
}
