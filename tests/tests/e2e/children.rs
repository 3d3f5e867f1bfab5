//! A task inside a task, and who is not in one although it was started there.

use serde_json::Value;
use testkit::poll;
use tests::world::{AT_ONCE, Database, World, errand_binary, written};

const READONLY: &str = "orders-db/readonly";

async fn world() -> (World, Database) {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    (world, orders)
}

/// `errand run` for `outer`, in it one for `inner`, and in that a shell with `script`.
fn nested<'a>(outer: &'a str, inner: &'a str, grant: &'a str, script: &'a str) -> Vec<&'a str> {
    let errand = errand_binary().to_str().unwrap();
    let outer = ["--intent", outer, "--grant", READONLY, "--", errand, "run"];
    let inner = ["--intent", inner, "--grant", grant, "--", "sh", "-c", script];
    outer.into_iter().chain(inner).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Invariants 6 and 9.
#[tokio::test]
async fn a_run_inside_a_run_is_its_child_and_is_served_the_innermost_identity_first() {
    let (world, orders) = world().await;
    let script = format!("{} svid x509 --output json", errand_binary().display());
    let seen = world.run(nested("outer", "inner", READONLY, &script)).to_end().await.exited(0).json();
    let (outer, inner) = (world.task_for("outer").await, world.task_for("inner").await);
    assert_eq!((&inner["parent"], &inner["depth"]), (&outer["id"], &1.into()), "{inner}");
    let first = &seen["svids"][0];
    let expected = format!("{}/task/{}", world.workload("planner"), text(&inner["id"]));
    assert_eq!((text(&first["spiffe_id"]), text(&first["hint"])), (expected.as_str(), "task"), "{seen}");
    assert!(text(&inner["ends_at"]) <= text(&outer["ends_at"]), "a child never outlives its parent");
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Invariant 6.
#[tokio::test]
async fn a_child_gets_nothing_that_its_parent_has_not() {
    let (world, orders) = world().await;
    world.run(nested("outer", "inner", "orders-db/writer", "exit 0")).to_end().await.exited(77);
    let tasks = world.operator(["task", "list", "--all"]).await;
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1, "the child was never started: {tasks}");
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Invariant 4.
#[tokio::test]
async fn ending_the_parent_ends_the_child_and_both_lose_what_they_hold() {
    let (world, orders) = world().await;
    let script = format!("{} -c 'select pg_sleep(600)'; exit 6", orders.psql().display());
    let run = world.run(nested("outer", "inner", READONLY, &script)).start();
    poll::until("the child holds a session", tests::world::SOON, async || orders.sessions().await == 1).await;
    assert_eq!(orders.roles().await, 2, "one of each task");

    let outer = world.task_for("outer").await;
    world.operator(["task", "revoke", text(&outer["id"])]).await;
    orders.is_left_alone().await;
    let inner = world.task_for("inner").await;
    assert_eq!((text(&inner["state"]), text(&inner["end_reason"])), ("ended", "parent_ended"), "{inner}");
    assert_eq!(world.task_for("outer").await["end_reason"], "revoked");
    run.finish().await.exited(6);
    world.ends_well().await;
}

/// Invariant 9: membership follows parents, and a process that has left has none of them.
#[tokio::test]
async fn a_process_that_leaves_with_a_session_of_its_own_is_outside() {
    let (world, _orders) = world().await;
    let file = |name: &str| world.layout.dir().join(name);
    let errand = errand_binary().display();
    let show = |name: &str| format!("{errand} svid x509 --output json > {0}.new; mv {0}.new {0}", file(name).display());
    let script = format!(
        // Inside, `$$` is the shell between: once it is gone, the process has another parent.
        "{within}; setsid sh -c '(while kill -0 $$ 2>/dev/null; do sleep 0.05; done; {left}) &'; \
         until [ -e {wait} ]; do sleep 0.05; done",
        within = show("within.json"),
        left = show("left.json"),
        wait = file("left.json").display(),
    );
    world.run(["--intent", "leave", "--grant", READONLY, "--", "sh", "-c", &script]).to_end().await.exited(0);
    let ids = async |name: &str| -> Vec<String> {
        let seen: Value = serde_json::from_str(&written(&file(name)).await).unwrap();
        seen["svids"].as_array().unwrap().iter().map(|s| text(&s["spiffe_id"]).to_string()).collect()
    };
    let (within, left) = (ids("within.json").await, ids("left.json").await);
    assert!(within[0].contains("/task/"), "{within:?}");
    assert_eq!(left, [world.workload("planner")]);
    world.ends_well().await;
}

/// Invariant 4: what was served is dropped at once.
#[tokio::test]
async fn a_member_s_open_stream_loses_the_task_s_identity_with_the_task() {
    let (world, _orders) = world().await;
    let out = world.layout.dir().join("watched.json");
    let script = format!("{} svid watch --output json > {} & sleep 600", errand_binary().display(), out.display());
    let run = world.run(["--intent", "watch", "--grant", READONLY, "--", "sh", "-c", &script]).start();
    let seen = || std::fs::read_to_string(&out).unwrap_or_default();
    poll::until("the member sees the task", tests::world::SOON, async || seen().contains("/task/")).await;
    let task = world.task_for("watch").await;
    world.operator(["task", "revoke", text(&task["id"])]).await;
    let dropped = async || seen().lines().last().is_some_and(|l| l.ends_with('}') && !l.contains("/task/"));
    poll::until("the member sees the task no more", AT_ONCE, dropped).await;
    drop(run);
    world.ends_well().await;
}
