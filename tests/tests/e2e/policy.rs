//! Policy is asked when a task starts and again at every exchange.

use tests::world::{Exchange, World};

const NO_WRITER: &str = "@id(\"planner\") permit (principal, action, resource);\n\
    @id(\"no-writer\") forbid (principal, action, resource == Role::\"orders-db/writer\");";

/// Invariants 1, 6 and 7.
#[tokio::test]
async fn a_grant_that_policy_denies_exits_77_and_leaves_one_record_that_names_the_policy() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    // Without any policy nothing is permitted.
    world.run(["--grant", "orders-db/readonly", "--", "true"]).to_end().await.exited(77);
    assert_eq!(world.journal("task.refused").await.len(), 1);

    world.permits(NO_WRITER).await;
    world.run(["--grant", "orders-db/readonly", "--", "true"]).to_end().await.exited(0);
    let denied = world.run(["--intent", "write", "--grant", "orders-db/writer", "--", "true"]).to_end().await;
    denied.exited(77).said("orders-db/writer");
    let refused = world.journal("task.refused").await;
    let record = &refused[1];
    assert_eq!(
        (&record["workload"], &record["intent"]),
        (&world.workload("planner").into(), &"write".into()),
        "{record}"
    );
    assert_eq!((&record["target"], &record["role"]), (&"orders-db".into(), &"writer".into()), "{record}");
    let policies = record["decision"]["policies"].to_string();
    assert!(policies.contains("no-writer") && record["decision"]["outcome"] == "deny", "{record}");
    // One denied grant denies the whole task: half of what was asked is never started.
    let both = ["--grant", "orders-db/readonly", "--grant", "orders-db/writer", "--", "true"];
    world.run(both).to_end().await.exited(77);
    orders.is_left_alone().await;
    assert_eq!(world.journal("lease.intended").await.len(), 1, "the permitted one");
    world.ends_well().await;
}

/// Invariants 6 and 7.
#[tokio::test]
async fn a_policy_tightened_after_the_start_denies_the_exchange() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let task = world.holds_task("write", &["orders-db/writer"]).await;
    Exchange::of(&task).to("orders-db/writer").send(&world).await.granted();

    world.permits(NO_WRITER).await;
    Exchange::of(&task).to("orders-db/writer").send(&world).await.refused("access_denied");
    let refused = world.journal("exchange.refused").await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["task_id"], task.id.as_str(), "{}", refused[0]);
    assert_eq!(orders.roles().await, 1, "the one from before");
    task.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}
