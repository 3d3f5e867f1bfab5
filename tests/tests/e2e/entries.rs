//! What an entry gives, how fast, and how it is taken away: entries, nodes and join tokens.

use testkit::poll;
use tests::world::{AT_ONCE, Node, SOON, Where, World, join_token, svid_stream, svids_of};
use tonic::Code;

/// Invariants 4 and 9; architecture section 6.
#[tokio::test]
async fn an_entry_is_pushed_to_an_open_stream_and_taken_back_from_it() {
    let world = World::start().await;
    let agent = world.node.connect().await;
    let mut stream = svid_stream(&agent).await.unwrap();
    let first = svids_of(&stream.message().await.unwrap().unwrap());
    assert_eq!(first.iter().map(|s| s.spiffe_id().to_string()).collect::<Vec<_>>(), [world.workload("planner")]);

    let added = world.register("second", &world.this_user()).await;
    let pushed = tokio::time::timeout(AT_ONCE, stream.message()).await.expect("pushed, not polled").unwrap().unwrap();
    let mut ids: Vec<_> = svids_of(&pushed).iter().map(|s| s.spiffe_id().to_string()).collect();
    ids.sort();
    assert_eq!(ids, [world.workload("planner"), world.workload("second")]);

    world.operator(["entry", "delete", &added]).await;
    let fewer = tokio::time::timeout(AT_ONCE, stream.message()).await.expect("told at once").unwrap().unwrap();
    assert_eq!(svids_of(&fewer).len(), 1);
    let entries = world.operator(["entry", "list"]).await;
    world.operator(["entry", "delete", entries["entries"][0]["id"].as_str().unwrap()]).await;
    let over = tokio::time::timeout(AT_ONCE, stream.message()).await.expect("told at once");
    assert_eq!(over.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(world.node.svids().await.unwrap_err().code(), Code::PermissionDenied);
    world.ends_well().await;
}

/// Invariant 9: a selector that does not fit gives nothing, however near it is.
#[tokio::test]
async fn an_entry_for_another_user_gives_this_one_nothing() {
    let world = World::start().await;
    let other = nix::unistd::geteuid().as_raw() + 1;
    world.register("other", &format!("unix:uid:{other}")).await;
    world.register("third", &world.this_user()).await;
    let served = async || world.node.svids().await.is_ok_and(|s| s.len() == 2);
    poll::until("the third is served", SOON, served).await;
    let ids: Vec<_> = world.node.svids().await.unwrap().iter().map(|s| s.spiffe_id().to_string()).collect();
    assert!(!ids.contains(&world.workload("other")), "{ids:?}");
    world.ends_well().await;
}

/// Invariants 4 and 8.
#[tokio::test]
async fn a_banned_node_loses_everything_and_its_tasks_end() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let psql = orders.psql();
    let run = ["--intent", "banned", "--grant", "orders-db/readonly", "--", psql.to_str().unwrap(), "-c"];
    let run = world.run(run).args(["select pg_sleep(600)"]).start();
    poll::until("the session is open", SOON, async || orders.sessions().await == 1).await;
    let agent = world.node.connect().await;
    let mut stream = svid_stream(&agent).await.unwrap();
    stream.message().await.unwrap().unwrap();

    let node = world.operator(["node", "list"]).await["nodes"][0]["id"].as_str().unwrap().to_string();
    world.operator(["node", "ban", &node]).await;
    orders.is_left_alone().await;
    let over = tokio::time::timeout(AT_ONCE, stream.message()).await.expect("the agent drops it at once");
    assert!(over.is_err(), "{over:?}");
    assert_eq!(world.task_for("banned").await["end_reason"], "node_banned");
    assert!(world.node.svids().await.is_err());
    assert!(world.tries_task("after", &[], 0).await.is_err());
    // Its credentials are gone; the command is told so by the database.
    run.finish().await.exited(2);
    let nodes = world.operator(["node", "list", "--banned"]).await;
    assert_eq!(nodes["nodes"][0]["id"], node.as_str());
    world.ends_well().await;
}

/// Invariant 5.
#[tokio::test]
async fn of_two_agents_that_race_with_one_join_token_exactly_one_gets_in() {
    let world = World::start().await;
    let token = join_token(&world.layout).await;
    let one = Node::begin(&world.layout, "racer-one", &token, Where::Processes).await;
    let two = Node::begin(&world.layout, "racer-two", &token, Where::Processes).await;
    let outcome = |node: &Node| {
        let log = node.process().log();
        (log.contains("this node is attested"), log.contains("this node is not attested"))
    };
    let settled = async || [&one, &two].iter().all(|n| outcome(n) != (false, false));
    poll::until("both have tried", SOON, settled).await;
    let won = [&one, &two].iter().filter(|n| outcome(n).0).count();
    assert_eq!(won, 1, "{}\n{}", one.process().log(), two.process().log());
    let nodes = world.operator(["node", "list"]).await;
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 2, "the first agent and the winner: {nodes}");
    assert_eq!(world.journal("node.attested").await.len(), 2);
    world.ends_well().await;
}
