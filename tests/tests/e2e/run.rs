//! `errand run` against a real PostgreSQL: what was given is there while CMD runs, and gone after, however it ends.

use tests::world::World;

const COUNT: &str = "select count(*) from orders";

/// Invariants 1, 2 and 4.
#[tokio::test]
async fn a_command_reads_the_database_as_a_role_that_is_gone_a_second_after_it_exits() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;

    let psql = orders.psql();
    let run = ["--intent", "count orders", "--grant", "orders-db/readonly", "--"];
    world.run(run).args([psql.to_str().unwrap(), "-Atc", COUNT]).to_end().await.exited(0).printed("2\n");
    orders.is_left_alone().await;

    let task = world.task_for("count orders").await;
    assert_eq!((&task["state"], &task["end_reason"]), (&"ended".into(), &"completed".into()), "{task}");
    for kind in ["lease.intended", "lease.handed", "lease.revoked"] {
        assert_eq!(world.journal(kind).await.len(), 1, "{kind}");
    }
    world.ends_well().await;
}
