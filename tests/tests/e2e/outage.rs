//! A target that is down, and a store that is full: nothing is forgotten, and nothing leaves that is not recorded.

use serde_json::Value;
use testkit::poll;
use tests::world::{Exchange, SOON, World, jwt_svid};
use tonic::Code;

const READONLY: &str = "orders-db/readonly";

/// Invariants 2 and 4.
#[tokio::test]
async fn a_lease_whose_target_is_down_stays_revoking_and_goes_when_the_target_is_back() {
    let world = World::start().await;
    let mut orders = world.has_its_own_orders_db().await;
    world.permits_everything().await;
    let task = world.holds_task("outlive the database", &[READONLY]).await;
    let answer = Exchange::of(&task).to(READONLY).send(&world).await.granted();
    let lease = answer["credential"]["id"].as_str().unwrap();

    assert_eq!(orders.roles().await, 1);
    orders.stop();
    task.completes().await;
    assert_eq!(world.task(&task.id).await["state"], "ended", "the end waits for no target");
    let shown = async || world.operator(["lease", "show", lease]).await;
    let tried = async |times: u64| shown().await["tries"].as_u64() >= Some(times);
    poll::until("it was tried again", SOON, async || tried(2).await).await;
    let held: Value = shown().await;
    assert_eq!(held["state"], "revoking", "{held}");
    assert!(held["last_error"].as_str().is_some_and(|e| !e.is_empty()), "{held}");
    let live = world.operator(["lease", "list", "--live"]).await;
    assert_eq!(live["leases"].as_array().unwrap().len(), 1, "it is there to be seen: {live}");

    orders.resume().await;
    poll::until("it is revoked", SOON, async || shown().await["state"] == "revoked").await;
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Invariant 7: without its target a task starts, and no credential is invented.
#[tokio::test]
async fn an_exchange_for_a_target_that_is_down_is_refused_and_leaves_nothing() {
    let world = World::start().await;
    let mut orders = world.has_its_own_orders_db().await;
    world.permits_everything().await;
    let task = world.holds_task("too early", &[READONLY]).await;
    orders.stop();
    let answer = Exchange::of(&task).to(READONLY).idempotency_key("again").send(&world).await;
    answer.refused("temporarily_unavailable");
    assert_eq!(answer.status, 503);
    orders.resume().await;
    // The same key may try again: nothing was released under it.
    Exchange::of(&task).to(READONLY).idempotency_key("again").send(&world).await.granted();
    assert_eq!(orders.roles().await, 1);
    task.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Invariants 1 and 7.
#[tokio::test]
async fn while_the_store_is_full_no_credential_leaves_and_it_heals_when_there_is_space() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let task = world.holds_task("fill", &[READONLY]).await;
    let store = world.server.here().store();
    let used = std::fs::metadata(world.layout.store()).unwrap().len();
    store.limit_size(used).await.unwrap();
    // Task tokens are one record each: they fill what is left of the pages.
    let mut released = 0;
    let refused = loop {
        let answer = Exchange::of(&task).send(&world).await;
        if answer.status != 200 {
            break answer;
        }
        released += 1;
        assert!(released < 2000, "the limit was ignored");
    };
    refused.refused("temporarily_unavailable");
    assert_eq!(refused.status, 503);
    for _ in 0..3 {
        Exchange::of(&task).to(READONLY).send(&world).await.refused("temporarily_unavailable");
        assert!(world.tries_task("another", &[], 0).await.is_err(), "no task is started that is not recorded");
    }
    assert_eq!(orders.roles().await, 0, "the target was not touched");
    // The agent: what it holds, and for what is new the server's reason.
    assert!(!world.node.svids().await.unwrap().is_empty(), "what was issued before is served");
    let agent = world.node.connect().await;
    let mut audiences = (0..200).map(|n| format!("https://{n}.example.org"));
    // A smaller record may still find room.
    let why = loop {
        let audience = audiences.next().expect("the limit holds for every record");
        if let Err(why) = jwt_svid(&agent, &audience).await {
            break why;
        }
    };
    assert!(why.code() == Code::Unavailable && why.message().contains("full"), "{why}");

    store.limit_size(1 << 30).await.unwrap();
    Exchange::of(&task).to(READONLY).send(&world).await.granted();
    assert_eq!(orders.roles().await, 1);
    assert_eq!(world.journal("token.issued").await.len(), released, "one record for each token that left");
    task.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}
