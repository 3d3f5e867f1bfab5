//! `[journal] keep` beside a whole server: what goes, what holds it back, and that what is left is proven.

use crate::{
    exports::{export, get, post, trust},
    world::{SOON, World},
};
use proto_types::{Lease, LeaseState, Record};
use serde_json::{Value, json};
use server_core::{
    journal::{Verdict, verify_export},
    ports::{Commit, Write},
};
use server_service::{LOOK_EVERY, LOOKS};
use std::time::Duration;
use testkit::ledger_law::nouns;

const KEEP: &str = "[journal]\nkeep = \"30d\"\n";
const DAY: Duration = Duration::from_secs(86_400);

async fn commit(world: &World, unit: Commit) -> u64 {
    world.server.service.ports().ledger.commit(unit).await.unwrap().first().0
}

async fn said(world: &World, user: &str) -> u64 {
    let record = Record::new(world.server.service.now(), "decision.made").user(Some(user.into()));
    commit(world, Commit::of(record)).await
}

/// A journal whose first records are forty days old; answers the position behind them.
async fn aged(world: &World) -> u64 {
    let old = said(world, "old@example.org").await;
    for _ in 0..2 {
        world.clock.advance(20 * DAY);
        said(world, "young@example.org").await;
    }
    old + 1
}

async fn start(world: &World) -> u64 {
    let root: Value = serde_json::from_str(&get(world, "/v1/journal/root").await.1).unwrap();
    root["start"].as_u64().unwrap()
}

/// So many looks; where the journal began after each that moved it.
async fn looks(world: &World, count: usize) -> Vec<Option<u64>> {
    let mut moved = Vec::new();
    for _ in 0..count {
        moved.push(world.server.service.prune_journal(30 * DAY).await.unwrap().map(|begin| begin.0));
    }
    moved
}

/// Lets the server's own work come by; answers where the journal begins then.
async fn worked(world: &World, holds: impl Fn(u64) -> bool) -> u64 {
    testkit::poll::until("the journal begins where it should", SOON, || {
        world.clock.advance(LOOK_EVERY);
        async { holds(start(world).await) }
    })
    .await;
    start(world).await
}

#[tokio::test]
async fn what_is_older_than_it_is_kept_goes_and_the_rest_is_proven_without_it() {
    let world = World::configured(KEEP).await;
    let behind = aged(&world).await;
    let trust = trust(&world).await;
    let whole = export(&world, "").await;
    let begin = worked(&world, |start| start > 0).await;
    assert!(begin >= behind, "{begin}");

    let (status, gone) = get(&world, &format!("/v1/journal/{}", behind - 1)).await;
    assert_eq!((status, gone.contains("\"pruned\"")), (410, true), "{gone}");
    assert_eq!(get(&world, "/v1/journal/tail?from=0").await.0, 410);
    let asked = json!({ "positions": [behind - 1], "fields": ["user"], "reason": "it is gone" });
    assert_eq!(post(&world, "/v1/journal/redact", &asked).await.0, 410);
    assert!(!get(&world, "/v1/journal?user=old@example.org").await.1.contains("old@"));
    assert!(get(&world, "/v1/journal?user=young@example.org").await.1.contains("young@"));

    // What is left is verified against the same key, and says itself that the rest was let go.
    let lines = export(&world, "").await;
    assert!(whole.concat().contains("old@") && !lines.concat().contains("old@"));
    assert!(matches!(verify_export(&lines, &trust), Ok(Verdict::Ok { .. })), "{:?}", verify_export(&lines, &trust));
    assert!(matches!(verify_export(&whole, &trust), Ok(Verdict::Ok { .. })), "and so is what was exported before");
    let pruned = get(&world, "/v1/journal?kind=journal.pruned").await.1;
    assert!(pruned.contains(&format!("\"before\":{begin}")) && pruned.contains("\"keep\":\"30d\""), "{pruned}");
    let chosen = export(&world, "user=young@example.org").await;
    assert!(matches!(verify_export(&chosen, &trust), Ok(Verdict::Included { records: 1.., .. })));
    assert_eq!(export(&world, "format=ocsf").await.len(), lines.len() - 1);

    // A sink that comes now begins with what is kept.
    let world = world.again("[[journal.sink]]\nkind = \"file\"\npath = \"DIR/late.jsonl\"\n").await;
    testkit::poll::until("the sink has records", SOON, || {
        world.clock.advance(Duration::from_secs(1));
        let text = std::fs::read_to_string(world.at("late.jsonl")).unwrap_or_default();
        let first = text.lines().next().map(|line| serde_json::from_str::<Value>(line).unwrap());
        async move { first.is_some_and(|first| first["position"] == begin) }
    })
    .await;
    world.server.stop().await;
}

#[tokio::test]
async fn what_a_sink_has_not_taken_and_what_a_living_credential_began_with_is_kept_longer() {
    // Nobody listens there.
    let deaf = format!("{KEEP}[[journal.sink]]\nkind = \"http\"\nurl = \"http://127.0.0.1:9/\"\n");
    let world = World::configured(&deaf).await;
    aged(&world).await;
    assert_eq!(looks(&world, LOOKS).await, [None; LOOKS], "a sink wants the first record");

    let world = world.again(KEEP).await;
    // Its target is not there any more: it is never confirmed to be gone.
    let lease = Lease { state: LeaseState::Revoking, ..nouns::lease(1, 1) };
    let record = Record::new(world.server.service.now(), "lease.revoking");
    commit(&world, Commit::of(record).put(Write::Lease(lease))).await;
    let world = world.again(KEEP).await;
    world.server.service.ports().archive.root().await.unwrap().unwrap();
    assert_eq!(looks(&world, LOOKS).await, [None; LOOKS], "a credential of that time is not over");
    assert_eq!(start(&world).await, 0);
    assert!(get(&world, "/v1/journal?user=old@example.org").await.1.contains("old@"));
    world.server.stop().await;
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_for_less_than_a_day_makes_nothing_old() {
    let world = World::start().await;
    said(&world, "old@example.org").await;
    world.clock.advance(2 * DAY);
    said(&world, "young@example.org").await;
    let right = world.server.service.now();
    // The clock is wrong by less than is doubted, and what is written meanwhile says so.
    let wrong = right.plus(29 * DAY);
    world.clock.set(wrong);
    said(&world, "young@example.org").await;
    get(&world, "/v1/journal/checkpoint").await;
    assert_eq!(looks(&world, LOOKS - 1).await, [None; LOOKS - 1]);
    // Set right it is in doubt, and what was seen before counts no more.
    world.clock.set(right);
    assert_eq!(looks(&world, 1).await, [None]);
    world.clock.set(wrong);
    assert_eq!(looks(&world, LOOKS - 1).await, [None; LOOKS - 1]);
    let moved = looks(&world, 1).await;
    assert!(matches!(moved[..], [Some(1..)]), "what stays old for a day is: {moved:?}");
    world.server.stop().await;
}
