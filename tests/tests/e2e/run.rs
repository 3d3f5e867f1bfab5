//! `errand run` against a real PostgreSQL: what was given is there while CMD runs, and gone after, however it ends.

use std::path::PathBuf;
use testkit::poll;
use tests::world::{Database, SOON, World, kill, runs, written};

const COUNT: &str = "select count(*) from orders";
const GRANT: [&str; 3] = ["--grant", "orders-db/readonly", "--"];

/// Invariants 1, 2 and 4.
#[tokio::test]
async fn a_command_reads_the_database_as_a_role_that_is_gone_a_second_after_it_exits() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;

    let run = world.run(["--intent", "count orders"]).args(GRANT);
    run.args([orders.psql().to_str().unwrap(), "-Atc", COUNT]).to_end().await.exited(0).printed("2\n");
    orders.is_left_alone().await;

    let task = world.task_for("count orders").await;
    assert_eq!((&task["state"], &task["end_reason"]), (&"ended".into(), &"completed".into()), "{task}");
    for kind in ["lease.intended", "lease.handed", "lease.revoked"] {
        assert_eq!(world.journal(kind).await.len(), 1, "{kind}");
    }
    world.ends_well().await;
}

/// The distribution's `psql` is a script that looks at its own name. Invariant 4.
#[tokio::test]
async fn a_command_may_be_a_script_that_executes_the_real_one() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    world.run(GRANT).args(["psql", "-Atc", COUNT]).to_end().await.exited(0).printed("2\n");

    let script = world.layout.write("count.sh", &format!("#!/bin/sh -e\nexec \"$1\" -Atc '{COUNT}' -v \"zero=$0\"\n"));
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let psql = orders.psql();
    world.run(GRANT).args([script.as_str(), psql.to_str().unwrap()]).to_end().await.exited(0).printed("2\n");
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// What a shell starts with is not what it ends as.
#[tokio::test]
async fn a_command_may_become_another_one_at_once() {
    let world = World::start().await;
    let _orders = world.has_orders_db().await;
    world.permits_everything().await;
    for _ in 0..10 {
        world.run(GRANT).args(["sh", "-c", "exec sleep 0.2"]).to_end().await.exited(0);
    }
    world.ends_well().await;
}

/// A command that holds a session, and a child of it that holds another.
struct Busy {
    run: tests::world::Started,
    command: i32,
    child: i32,
}

async fn busy(world: &World, orders: &Database) -> Busy {
    let file = |name: &str| world.layout.dir().join(name);
    let psql = orders.psql();
    let script = format!(
        "{psql} -c 'select pg_sleep(600)' & echo $! > {child}; echo $$ > {command}; {psql} -c 'select pg_sleep(600)'; exit 3",
        psql = psql.display(),
        child = file("child").display(),
        command = file("command").display(),
    );
    let run = world.run(["--intent", "sleep"]).args(GRANT).args(["sh", "-c", &script]).start();
    let number = async |path: PathBuf| written(&path).await.parse::<i32>().unwrap();
    let (command, child) = (number(file("command")).await, number(file("child")).await);
    poll::until("both sessions are open", SOON, async || orders.sessions().await == 2).await;
    Busy { run, command, child }
}

/// Invariants 2 and 4.
#[tokio::test]
async fn a_killed_errand_run_takes_role_sessions_and_command_with_it() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let busy = busy(&world, &orders).await;
    let task = world.task_for("sleep").await;

    busy.run.kill();
    orders.is_left_alone().await;
    poll::until("the command and its child are gone", SOON, async || !runs(busy.command) && !runs(busy.child)).await;
    let task = world.task_ends(task["id"].as_str().unwrap()).await;
    assert_eq!(task["end_reason"], "process_gone", "{task}");
    world.ends_well().await;
}

/// Invariants 2 and 4.
#[tokio::test]
async fn a_killed_command_takes_role_and_sessions_with_it_its_children_s_too() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let busy = busy(&world, &orders).await;

    kill(busy.command);
    orders.is_left_alone().await;
    busy.run.finish().await.exited(128 + 9);
    let task = world.task_for("sleep").await;
    assert_eq!(task["state"], "ended", "{task}");
    world.ends_well().await;
}

/// Invariant 4: the deadline is the server's, whatever runs.
#[tokio::test]
async fn at_the_deadline_the_command_lives_and_its_credentials_do_not() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let psql = orders.psql();
    // The second attempt begins when the first was thrown out; then the private directory goes.
    let script = format!(
        "{p} -c 'select pg_sleep(600)' && exit 9; {p} -c 'select 1' && exit 8; \
         while [ -e \"$ERRAND_DIR\" ]; do sleep 0.05; done; exit 5",
        p = psql.display()
    );
    let run = world.run(["--intent", "short", "--ttl", "2s"]).args(GRANT).args(["sh", "-c", &script]);
    run.to_end().await.exited(5).said("deadline");
    orders.is_left_alone().await;
    // Certificates and roles know whole seconds: they may be over in the second before.
    let id = world.task_for("short").await["id"].clone();
    assert_eq!(world.task_ends(id.as_str().unwrap()).await["end_reason"], "deadline");
    world.ends_well().await;
}

/// Interfaces, section 1: what scripts rely on.
#[tokio::test]
async fn the_exit_status_is_the_command_s_and_says_what_went_wrong_before_it() {
    let world = World::start().await;
    let _orders = world.has_orders_db().await;
    world.permits_everything().await;
    world.run(GRANT).args(["sh", "-c", "exit 7"]).to_end().await.exited(7);
    world.run(GRANT).args(["sh", "-c", "kill -TERM $$"]).to_end().await.exited(128 + 15);
    world.run(GRANT).args(["no-such-command"]).to_end().await.exited(127);
    world.run(GRANT).args(["/etc/passwd"]).to_end().await.exited(126);
    world.run(["--grant", "orders-db", "--", "true"]).to_end().await.exited(2);
    world.run(["--grant", "orders-db/readonly"]).to_end().await.exited(2);
    world.run(["--grant", "no-such-target/role", "--", "true"]).to_end().await.exited(1).said("no-such-target");
    let nowhere = "unix:///nonexistent/agent.sock";
    world.run(GRANT).args(["true"]).env("SPIFFE_ENDPOINT_SOCKET", nowhere).to_end().await.exited(69);
    world.ends_well().await;
}
