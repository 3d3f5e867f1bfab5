//! Order, durability of whole units, and the feed.

use super::{
    Store,
    nouns::{T0, at, claim, entry, lease, note, record},
};
use proto_types::{LeaseState, Position, Record};
use server_core::ports::{Commit, CommitError, Guard, Write};

pub async fn positions_have_no_gaps_under_64_committers(store: Store) {
    let committer = |n: u64| {
        let ledger = store.ledger.clone();
        tokio::spawn(async move {
            let mut spans = Vec::new();
            for turn in 0..8 {
                let mut unit = note();
                if turn % 2 == 1 {
                    unit = unit.also(record("token.issued"));
                }
                if turn % 3 == 2 {
                    // All committers want it: one unit is kept, 63 are lost.
                    unit = unit.when(Guard::Unclaimed(claim("turn", &turn.to_string())));
                }
                match ledger.commit(unit).await {
                    Ok(durable) => spans.push((durable.first().0, durable.last().0)),
                    Err(CommitError::Lost(_)) if turn % 3 == 2 => {}
                    Err(other) => panic!("committer {n}: {other}"),
                }
            }
            spans
        })
    };
    let running: Vec<_> = (0..64).map(committer).collect();
    let mut spans = Vec::new();
    for committer in running {
        spans.extend(committer.await.expect("a committer ends"));
    }
    spans.sort_unstable();
    let mut next = 0;
    for (first, last) in spans {
        assert_eq!(first, next, "positions have a gap or overlap");
        next = last + 1;
    }
    assert_eq!(store.size(), next);
    assert_eq!(store.journal().await.unwrap().len() as u64, next);
}

pub async fn the_feed_is_read_from_any_position(store: Store) {
    let mut written = Vec::new();
    for n in 0..40 {
        let mut one = record("task.started").workload(format!("spiffe://example.org/{n}")).intent(format!("work {n}"));
        one.time = at(n);
        written.push(one.clone());
        let durable = store.keep(Commit::of(one)).await;
        assert_eq!(durable.first(), Position(n as u64));
        assert!(durable.leaf().is_some());
    }
    assert_eq!(store.journal().await.unwrap(), written);
    for from in 0..=41u64 {
        let page = store.feed.from(Position(from), 7).await.unwrap();
        let expected: Vec<Record> = written.iter().skip(from as usize).take(7).cloned().collect();
        assert_eq!(page.iter().map(|(_, r)| (**r).clone()).collect::<Vec<_>>(), expected, "from {from}");
        assert!(page.first().is_none_or(|(position, _)| position.0 == from));
    }
}

pub async fn a_follower_is_woken_by_a_commit(store: Store) {
    let mut size = store.feed.size();
    assert_eq!(*size.borrow_and_update(), 0);
    let durable = store.keep(note()).await;
    size.changed().await.expect("the store is open");
    assert_eq!(*size.borrow_and_update(), 1);
    // Who was told that it is durable finds it.
    assert_eq!(store.feed.from(durable.first(), 1).await.unwrap().len(), 1);
}

pub async fn a_lost_guard_costs_its_own_unit_only(store: Store) {
    store.keep(note().when(Guard::Unclaimed(claim("approval", "taken")))).await;
    let before = store.size();
    let commit = |n: u64| {
        let key = if n.is_multiple_of(2) { "taken".into() } else { format!("free {n}") };
        store.commit(note().when(Guard::Unclaimed(claim("approval", &key))))
    };
    let outcomes = futures(64, commit).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), n % 2 == 1, "unit {n}: {outcome:?}");
        assert!(outcome.is_ok() || matches!(outcome, Err(CommitError::Lost(Guard::Unclaimed(_)))));
    }
    assert_eq!(store.size(), before + 32);
}

/// Runs `n` futures of one task at once, in order of their numbers.
async fn futures<F: Future>(n: u64, make: impl Fn(u64) -> F) -> Vec<F::Output> {
    let mut pending: Vec<_> = (0..n).map(|i| Some(Box::pin(make(i)))).collect();
    let mut done: Vec<_> = (0..n).map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in pending.iter_mut().zip(&mut done) {
            if let Some(running) = future
                && let std::task::Poll::Ready(output) = running.as_mut().poll(context)
            {
                *slot = Some(output);
                *future = None;
            }
        }
        if pending.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

pub async fn a_unit_is_wholly_there_or_wholly_absent(store: Store) {
    let half = |last: Guard| {
        note()
            .also(record("entry.created"))
            .when(Guard::Unclaimed(claim("jti", "one")))
            .when(last)
            .put(Write::Entry(entry(1, 1)))
    };
    let impossible = Guard::LeaseIn(super::nouns::lease_id(9), LeaseState::Handed);
    let lost = store.commit(half(impossible.clone())).await;
    assert!(matches!(lost, Err(CommitError::Lost(guard)) if guard == impossible));
    assert_eq!(store.size(), 0, "a lost unit left a record");
    assert!(store.snapshots.load().await.unwrap().entries.is_empty(), "a lost unit left a row");

    // A write that contradicts what is stored undoes the unit too: two leases never share a name in a target.
    store.keep(note().put(Write::Lease(lease(1, 1)))).await;
    let mut twin = lease(2, 1);
    twin.name = lease(1, 1).name;
    let refused = note().when(Guard::Unclaimed(claim("jti", "one"))).put(Write::Entry(entry(1, 1)));
    assert!(store.commit(refused.put(Write::Lease(twin))).await.is_err());
    assert!(store.snapshots.load().await.unwrap().entries.is_empty(), "a refused unit left a row");

    // Its near twin takes the claim that both left alone.
    let durable = store.keep(half(Guard::LeaseIn(super::nouns::lease_id(1), LeaseState::Intended))).await;
    assert_eq!((durable.first(), durable.last()), (Position(1), Position(2)));
    assert_eq!(store.snapshots.load().await.unwrap().entries, [entry(1, 1)]);
}

pub async fn nothing_is_issued_when_the_clock_runs_back_and_what_ends_something_still_does(store: Store) {
    let when = |kind: &'static str, seconds: i64| {
        let mut one = record(kind);
        one.time = at(seconds);
        Commit::of(one)
    };
    store.keep(when("svid.minted", 1000)).await;
    let refused = store.commit(when("svid.minted", 969)).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(why)) if why.contains("clock")));
    store.keep(when("svid.minted", 971)).await;
    store.keep(when("lease.revoked", 900)).await;
    assert_eq!(store.size(), 3);
    assert_eq!(store.snapshots.meta().clock_high_water, at(1000));
    assert!(store.snapshots.meta().clock_high_water > T0);
}

pub async fn nothing_is_issued_when_the_clock_leapt_ahead_and_what_it_said_is_not_remembered(store: Store) {
    const DAY: i64 = 86_400;
    let when = |kind: &'static str, seconds: i64| {
        let mut one = record(kind);
        one.time = at(seconds);
        Commit::of(one)
    };
    store.keep(when("svid.minted", 0)).await;
    for far in [31 * DAY, 3650 * DAY] {
        let refused = store.commit(when("svid.minted", far)).await;
        assert!(matches!(refused, Err(CommitError::Unavailable(why)) if why.contains("clock")));
        store.keep(when("lease.revoked", far)).await;
        assert_eq!(store.snapshots.meta().clock_high_water, at(0), "an end at a time that is not believed");
    }
    store.keep(when("svid.minted", 1)).await;
    store.keep(when("svid.minted", 30 * DAY)).await;
    assert_eq!(store.snapshots.meta().clock_high_water, at(30 * DAY));
}
