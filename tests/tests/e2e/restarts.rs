//! Daemons that are killed and started again on the same data. Invariants 2, 3, 4, 7 and 9.

use serde_json::Value;
use std::path::PathBuf;
use tests::world::{Database, Exchange, SOON, Started, World, errand_binary, svid_stream, svids_of, written};

const READONLY: &str = "orders-db/readonly";

async fn world() -> (World, Database) {
    let world = World::of_processes().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    (world, orders)
}

/// A task whose command waits for a file before it says what it is, and then for another before it ends.
struct Waiting {
    run: Started,
    id: String,
    files: PathBuf,
}

impl Waiting {
    async fn start(world: &World, intent: &str) -> Self {
        let files = world.layout.dir().join(intent);
        std::fs::create_dir(&files).unwrap();
        let script = format!(
            "cd {}; echo \"$ERRAND_TASK_ID\" > id; until [ -e look ]; do sleep 0.05; done; \
             {} svid x509 --output json > seen.new; mv seen.new seen; until [ -e leave ]; do sleep 0.05; done",
            files.display(),
            errand_binary().display(),
        );
        let run = world.run(["--intent", intent, "--grant", READONLY, "--", "sh", "-c", &script]).start();
        let id = written(&files.join("id")).await;
        Self { run, id, files }
    }
    fn may(&self, what: &str) {
        std::fs::write(self.files.join(what), "").unwrap();
    }
    /// What the command is now, by its agent's word.
    async fn is_served(&self) -> Vec<String> {
        self.may("look");
        let seen: Value = serde_json::from_str(&written(&self.files.join("seen")).await).unwrap();
        let svids = seen["svids"].as_array().cloned().unwrap_or_default();
        svids.iter().map(|s| s["spiffe_id"].as_str().unwrap().to_string()).collect()
    }
}

fn agent_identity(world: &World) -> Value {
    serde_json::from_slice(&std::fs::read(world.layout.dir().join("node/data/agent_svid.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_killed_agent_is_the_same_agent_again_and_finds_its_tasks() {
    let (mut world, orders) = world().await;
    let task = Waiting::start(&world, "survive").await;
    let before = agent_identity(&world);

    world.node.kill();
    world.node.start_again().await;
    world.workload_is_served().await;
    assert_eq!(agent_identity(&world)["current"], before["current"], "the agent kept its SVID");
    let nodes = world.operator(["node", "list"]).await;
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "{nodes}");
    let served = task.is_served().await;
    assert_eq!(served[0], format!("{}/task/{}", world.workload("planner"), task.id), "{served:?}");

    // Found again, it still ends with its launcher.
    task.run.kill();
    orders.is_left_alone().await;
    assert_eq!(world.task_ends(&task.id).await["end_reason"], "process_gone");
    world.ends_well().await;
}

#[tokio::test]
async fn a_task_whose_process_went_while_the_agent_was_away_ends_when_it_is_back() {
    let (mut world, orders) = world().await;
    let task = Waiting::start(&world, "gone").await;
    world.node.kill();
    task.run.kill();
    assert_eq!(world.task(&task.id).await["state"], "active", "nobody has told the server");
    world.node.start_again().await;
    assert_eq!(world.task_ends(&task.id).await["end_reason"], "process_gone");
    orders.is_left_alone().await;
    world.ends_well().await;
}

#[tokio::test]
async fn while_the_server_is_away_cached_identities_are_served_and_nothing_new_is_issued() {
    let (mut world, orders) = world().await;
    let agent = world.node.connect().await;
    let mut stream = svid_stream(&agent).await.unwrap();
    let first = svids_of(&stream.message().await.unwrap().unwrap());
    let task = Waiting::start(&world, "offline").await;

    world.server.kill();
    assert_eq!(world.node.svids().await.unwrap()[0].spiffe_id(), first[0].spiffe_id());
    assert!(world.tries_task("new", &[], 0).await.is_err(), "no task without a server");
    // The task goes on, and its end is told when somebody listens.
    assert!(task.is_served().await[0].ends_with(&task.id));
    task.may("leave");
    task.run.finish().await.exited(0);

    world.server.start_again().await;
    assert_eq!(world.task_ends(&task.id).await["end_reason"], "completed");
    orders.is_left_alone().await;
    world.register("second", &world.this_user()).await;
    let healed = async { while svids_of(&stream.message().await.unwrap().unwrap()).len() < 2 {} };
    tokio::time::timeout(SOON, healed).await.expect("the stream heals");
    world.ends_well().await;
}

#[tokio::test]
async fn a_killed_server_keeps_entries_tasks_leases_and_journal() {
    let (mut world, orders) = world().await;
    let held = world.holds_task("held", &[READONLY]).await;
    let credential = Exchange::of(&held).to(READONLY).send(&world).await.granted()["credential"].clone();
    let running = Waiting::start(&world, "running").await;
    let entries = world.operator(["entry", "list"]).await;
    let journal = world.operator(["journal", "search", "--all"]).await;

    world.server.kill();
    world.server.start_again().await;
    assert_eq!(world.operator(["entry", "list"]).await, entries);
    let after = world.operator(["journal", "search", "--all"]).await;
    let records = |found: &Value| found["records"].as_array().unwrap().iter().rev().cloned().collect::<Vec<_>>();
    let (before, after) = (records(&journal), records(&after));
    assert_eq!(after[..before.len()], before[..], "what was acknowledged is there, in the same order");

    // The credential handed out before is still good, and the task may have another.
    let text = |name: &str| credential[name].as_str().unwrap().to_string();
    orders.postgres.connect(&text("user"), &text("password"), "orders").await.expect("the credential is still good");
    Exchange::of(&held).to(READONLY).send(&world).await.granted();
    assert_eq!(orders.roles().await, 3);
    assert!(running.is_served().await[0].ends_with(&running.id));
    running.may("leave");
    running.run.finish().await.exited(0);
    held.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}
