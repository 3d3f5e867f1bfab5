//! A hold ends what matches and refuses what is new, until it is released.

use serde_json::Value;
use testkit::poll;
use tests::world::{AT_ONCE, Exchange, SOON, World, jwt_svid, svid_stream, svids_of};
use tonic::Code;

/// Puts on hold what `scope` says; the hold as it was answered.
async fn hold(world: &World, scope: [&str; 2]) -> Value {
    world.operator(["hold", "create", "--reason", "odd queries"].into_iter().chain(scope)).await
}

async fn release(world: &World, hold: &Value) {
    world.operator(["hold", "release", hold["id"].as_str().unwrap()]).await;
}

/// Invariants 1, 2 and 4.
#[tokio::test]
async fn a_hold_on_a_target_ends_the_command_s_session_and_refuses_the_next_until_it_is_released() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let psql = orders.psql();
    let grant = ["--grant", "orders-db/readonly", "--"];
    let sleep = [psql.to_str().unwrap(), "-c", "select pg_sleep(600)"];
    let run = world.run(["--intent", "sleep"]).args(grant).args(sleep).start();
    poll::until("the session is open", SOON, async || orders.sessions().await == 1).await;
    let bystander = world.holds_task("nothing in the database", &[]).await;

    let made = hold(&world, ["--target", "orders-db"]).await;
    assert_eq!((&made["ended_tasks"], &made["ending_tasks"]), (&1.into(), &0.into()), "{made}");
    orders.is_left_alone().await;
    run.finish().await.said("held");
    assert_eq!(world.task_for("sleep").await["end_reason"], "held");
    assert_eq!(world.task(&bystander.id).await["state"], "active", "a task without a grant there goes on");

    let refused = world.run(["--intent", "again"]).args(grant).args(["true"]).to_end().await.exited(77);
    refused.said("target orders-db is on hold").said(made["id"].as_str().unwrap());
    let records = world.journal("task.refused").await;
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &"held".into()), "{records:?}");
    world.run(["--", "true"]).to_end().await.exited(0);

    release(&world, &made).await;
    world.run(grant).args(["true"]).to_end().await.exited(0);
    let kinds = [world.journal("hold.created").await.len(), world.journal("hold.released").await.len()];
    assert_eq!(kinds, [1, 1]);
    assert_eq!(world.operator(["hold", "list"]).await["holds"].as_array().unwrap().len(), 0);
    bystander.completes().await;
    world.ends_well().await;
}

/// Invariants 4 and 8.
#[tokio::test]
async fn a_hold_on_a_workload_takes_its_svids_from_open_streams_and_gives_them_back() {
    let world = World::start().await;
    world.permits_everything().await;
    world.register("second", &world.this_user()).await;
    let agent = world.node.connect().await;
    let both = async || world.node.svids().await.is_ok_and(|s| s.len() == 2);
    poll::until("both are served", SOON, both).await;
    let mut stream = svid_stream(&agent).await.unwrap();
    stream.message().await.unwrap().unwrap();
    let mut task = world.holds_task("nothing", &[]).await;

    let planner = world.workload("planner");
    let made = hold(&world, ["--workload", &planner]).await;
    assert_eq!(made["matches"]["value"], planner.as_str(), "{made}");
    let left = async {
        loop {
            let ids = svids_of(&stream.message().await.unwrap().unwrap());
            let ids: Vec<_> = ids.iter().map(|s| s.spiffe_id().to_string()).collect();
            if ids == [world.workload("second")] {
                return;
            }
        }
    };
    tokio::time::timeout(AT_ONCE, left).await.expect("taken back at once");
    assert_eq!(task.end_reason().await, "held");
    let mint = ["mint", "jwt", "--audience", "x", "--spiffe-id"];
    world.errand(mint).args([planner.as_str()]).to_end().await.exited(77).said("on hold");
    world.errand(mint).args([world.workload("second").as_str()]).to_end().await.exited(0);

    // Everything below a path: the second too, and then there is nothing left to serve.
    let below = hold(&world, ["--workload", &world.workload("*")]).await;
    let none = async || jwt_svid(&agent, "x").await.is_err_and(|e| e.code() == Code::PermissionDenied);
    poll::until("nobody is served", AT_ONCE, none).await;

    release(&world, &below).await;
    release(&world, &made).await;
    poll::until("both are served again", AT_ONCE, both).await;
    world.ends_well().await;
}

/// Invariants 4 and 7: the agent stays, so that it hears of the end and of the release.
#[tokio::test]
async fn a_hold_on_a_node_ends_its_tasks_and_leaves_its_agent_connected() {
    let world = World::start().await;
    let _orders = world.has_orders_db().await;
    world.permits_everything().await;
    let mut task = world.holds_task("read", &["orders-db/readonly"]).await;
    let exchange = Exchange::of(&task).to("orders-db/readonly");
    let nodes = world.operator(["node", "list"]).await;
    let node = nodes["agents"][0]["id"].as_str().or(nodes["nodes"][0]["id"].as_str()).unwrap().to_string();
    let made = hold(&world, ["--node", &node]).await;
    assert_eq!(task.end_reason().await, "held");
    exchange.send(&world).await.refused("invalid_client");
    let none = async || world.node.svids().await.is_err();
    poll::until("nobody is served", AT_ONCE, none).await;
    release(&world, &made).await;
    world.workload_is_served().await;
    world.run(["--grant", "orders-db/readonly", "--", "true"]).to_end().await.exited(0);
    world.ends_well().await;
}
