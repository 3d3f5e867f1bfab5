//! What is found, listed and verified.

use super::{
    Store,
    nouns::{at, ended, lease, lease_id, note, record, task, task_id},
};
use proto_types::{LeaseState, Position, TaskId, Timestamp};
use server_core::{
    journal::{PrivateField, PrivateValue, Verdict, Verifier},
    ports::{Commit, CommitError, Filter, Guard, Write},
};
use std::future::Future;

fn by(set: impl FnOnce(&mut Filter)) -> Filter {
    let mut filter = Filter::default();
    set(&mut filter);
    filter
}

async fn positions(store: &Store, filter: &Filter) -> Vec<u64> {
    let found = store.archive.search(filter, None, 100).await.unwrap();
    found.iter().map(|(position, _)| position.0).collect()
}

pub async fn records_are_found_by_what_they_name(store: Store) {
    let planner = "spiffe://example.org/agents/planner";
    let handed = |n: u64, time: Timestamp| {
        let mut one = record("lease.handed")
            .workload(planner)
            .task(task_id(n))
            .user(Some(format!("user-{n}@example.org")))
            .target("orders-db")
            .node("spiffe://example.org/spire/agent/1")
            .credential("postgres", lease_id(n))
            .detail(serde_json::json!({"name": format!("errand_abcde_{n}")}));
        one.time = time;
        Commit::of(one)
    };
    for n in 0..5 {
        store.keep(handed(n, at(n as i64 * 100))).await;
        let mut minted = record("svid.minted").workload("spiffe://example.org/web").credential("x509", format!("0{n}"));
        minted.time = at(n as i64 * 100 + 1);
        store.keep(Commit::of(minted)).await;
    }
    assert_eq!(positions(&store, &Filter::default()).await, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let cases = [
        (by(|f| f.kind = Some("lease.handed".into())), vec![8, 6, 4, 2, 0]),
        (by(|f| f.workload = Some(planner.into())), vec![8, 6, 4, 2, 0]),
        (by(|f| f.target = Some("orders-db".into())), vec![8, 6, 4, 2, 0]),
        (by(|f| f.node = Some("spiffe://example.org/spire/agent/1".into())), vec![8, 6, 4, 2, 0]),
        (by(|f| f.task = Some(task_id(3))), vec![6]),
        (by(|f| f.user = Some("user-1@example.org".into())), vec![2]),
        (by(|f| f.credential = Some("04".into())), vec![9]),
        (by(|f| f.credential = Some(lease_id(2).to_string())), vec![4]),
        (by(|f| f.credential = Some("errand_abcde_2".into())), vec![4]),
        (by(|f| (f.from, f.to) = (Some(at(100)), Some(at(201)))), vec![5, 4, 3, 2]),
        (by(|f| (f.kind, f.from) = (Some("svid.minted".into()), Some(at(301)))), vec![9, 7]),
        (by(|f| (f.task, f.kind) = (Some(task_id(3)), Some("svid.minted".into()))), vec![]),
        (by(|f| f.kind = Some("lease.%".into())), vec![]),
        (by(|f| f.to = Some(at(-100))), vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(positions(&store, &filter).await, expected, "{filter:?}");
    }
    let whole = store.archive.search(&by(|f| f.task = Some(task_id(1))), None, 1).await.unwrap();
    assert_eq!(whole[0].1.user.as_deref(), Some("user-1@example.org"));

    // Pages, newest first, each beginning where the one before ended.
    let kind = by(|f| f.kind = Some("svid.minted".into()));
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = store.archive.search(&kind, before, 2).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        before = Some(*last);
        seen.extend(page.iter().map(|(position, _)| position.0));
    }
    assert_eq!(seen, [9, 7, 5, 3, 1]);
}

pub async fn tasks_and_leases_are_listed_in_pages(store: Store) {
    for n in 0..10 {
        let one = if n < 4 { ended(task(n)) } else { task(n) };
        let mut credential = lease(n, n);
        if n < 4 {
            credential.state = LeaseState::Revoked;
        }
        store.keep(note().put(Write::Task(one)).put(Write::Lease(credential))).await;
    }
    assert_eq!(store.archive.task(task_id(2)).await.unwrap(), Some(ended(task(2))));
    assert_eq!(store.archive.task(task_id(99)).await.unwrap(), None);
    assert_eq!(store.archive.lease(lease_id(5)).await.unwrap(), Some(lease(5, 5)));
    let name = lease(5, 5).name;
    assert_eq!(store.archive.lease_named("orders-db", &name).await.unwrap(), Some(lease(5, 5)));
    assert_eq!(store.archive.lease_named("other-db", &name).await.unwrap(), None);

    let archive = &store.archive;
    let tasks = |filter: Filter| async move {
        let found = archive.tasks(&filter, None, 100).await.unwrap();
        found.into_iter().map(|t| t.id).collect::<Vec<_>>()
    };
    let ids = |numbers: &[u64]| numbers.iter().map(|n| task_id(*n)).collect::<Vec<TaskId>>();
    assert_eq!(tasks(by(|f| f.live = Some(false))).await, ids(&[3, 2, 1, 0]));
    assert_eq!(tasks(by(|f| f.live = Some(true))).await, ids(&[9, 8, 7, 6, 5, 4]));
    assert_eq!(tasks(by(|f| f.user = Some("user-1@example.org".into()))).await, ids(&[9, 7, 5, 3, 1]));
    assert_eq!(tasks(by(|f| f.target = Some("orders-db".into()))).await.len(), 10);
    assert_eq!(tasks(by(|f| f.target = Some("orders".into()))).await, ids(&[]));
    assert_eq!(tasks(by(|f| f.workload = Some("spiffe://example.org/agents/planner".into()))).await.len(), 10);
    for (below, found) in [
        ("spiffe://example.org/*", 10),
        ("spiffe://example.org/agents/*", 10),
        ("spiffe://example.org/agents/planner/*", 0),
    ] {
        assert_eq!(tasks(by(|f| f.workload = Some(below.into()))).await.len(), found, "{below}");
    }
    assert_eq!(tasks(by(|f| f.node = Some("spiffe://example.org/other".into()))).await, ids(&[]));
    assert_eq!(tasks(by(|f| f.credential = Some(lease_id(6).to_string()))).await, ids(&[6]));
    assert_eq!(tasks(by(|f| (f.from, f.to) = (Some(at(3)), Some(at(5))))).await, ids(&[5, 4, 3]));

    let leases = |filter: Filter| async move {
        let found = archive.leases(&filter, None, 100).await.unwrap();
        found.into_iter().map(|l| l.id).collect::<Vec<_>>()
    };
    assert_eq!(leases(by(|f| f.live = Some(false))).await.len(), 4);
    assert_eq!(leases(by(|f| f.task = Some(task_id(7)))).await, [lease_id(7)]);
    assert_eq!(leases(by(|f| f.user = Some("user-0@example.org".into()))).await.len(), 5);
    assert_eq!(leases(by(|f| f.credential = Some(lease(8, 8).name.to_string()))).await, [lease_id(8)]);
    assert_eq!(leases(by(|f| f.target = Some("other-db".into()))).await, []);

    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = store.archive.leases(&Filter::default(), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|l| l.id));
    }
    assert_eq!(seen, (0..10).rev().map(lease_id).collect::<Vec<_>>());
}

pub async fn stored_records_verify(store: Store) {
    let mut leaves = Vec::new();
    for n in 0..30 {
        let one = record("task.started").intent(format!("work {n}")).user(Some("kim".into()));
        leaves.extend(store.keep(Commit::of(one)).await.leaf().copied());
    }
    let mut verifier = Verifier::new([]);
    let mut from = 0;
    loop {
        let page = store.archive.stored(Position(from), 7).await.unwrap();
        if page.is_empty() {
            break;
        }
        for stored in &page {
            assert_eq!(Some(&stored.leaf), leaves.get(stored.position.0 as usize), "the leaf that was answered");
            assert_eq!(stored.private.len(), 2);
            assert!(verifier.feed(stored));
        }
        from += page.len() as u64;
    }
    assert!(matches!(verifier.finish(), Verdict::Ok { size: 30, .. }));
}

pub async fn what_is_redacted_is_gone_and_every_leaf_stays_true<F, Fut>(make: &F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Store>,
{
    let store = make("redacted").await;
    for n in 0..3 {
        store.keep(Commit::of(record("task.started").intent(format!("work {n}")).user(Some("kim".into())))).await;
    }
    let value = |position, field| PrivateValue { position: Position(position), field };
    let erase = |v: PrivateValue| Commit::of(record("journal.redacted")).when(Guard::Private(v)).put(Write::Redact(v));
    let gone = value(1, PrivateField::User);
    // In a unit that is refused for another guard, nothing goes.
    let refused = erase(gone).when(Guard::Private(value(9, PrivateField::User)));
    assert!(matches!(store.commit(refused).await, Err(CommitError::Lost(Guard::Private(v))) if v.position.0 == 9));
    let by_user = by(|f| f.user = Some("kim".into()));
    assert_eq!(positions(&store, &by_user).await, [2, 1, 0]);
    store.keep(erase(gone)).await;
    assert!(matches!(store.commit(erase(gone)).await, Err(CommitError::Lost(Guard::Private(_)))), "erased once");

    redacted_is(&store, &by_user).await;
    drop(store);
    redacted_is(&make("redacted").await, &by_user).await;
}

async fn redacted_is(store: &Store, by_user: &Filter) {
    assert_eq!(positions(store, by_user).await, [2, 0]);
    let journal = store.journal().await.unwrap();
    let told: Vec<_> = journal.iter().take(3).map(|r| (r.user.as_deref(), r.intent.as_deref())).collect();
    assert_eq!(told, [(Some("kim"), Some("work 0")), (None, Some("work 1")), (Some("kim"), Some("work 2"))]);
    let mut verifier = Verifier::new([]);
    let all = store.archive.stored(Position(0), 100).await.unwrap();
    assert_eq!(all.iter().map(|s| s.private.len()).collect::<Vec<_>>(), [2, 1, 2, 0]);
    assert!(all.iter().all(|stored| verifier.feed(stored)));
    assert!(matches!(verifier.finish(), Verdict::Ok { size: 4, .. }));
}
