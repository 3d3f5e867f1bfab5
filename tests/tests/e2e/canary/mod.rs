//! Invariant 12: no secret in a log, a record, the store, a process list or an environment. Every secret that this world
//! knows is looked for in everything that it leaves behind, as it is and as base64 and hex. And no process that holds one
//! leaves a core.

mod cores;
mod kinds;
mod search;

use search::Places;
use std::fs;
use tests::world::{Exchange, World, written};

const READONLY: &str = "orders-db/readonly";
/// The manager's password; long and odd enough to be found.
const MANAGER: &str = "canary-5f1d-manager-password";

#[tokio::test]
async fn no_secret_is_found_anywhere_but_where_its_owner_reads_it() {
    let world = World::of_processes().await;
    let orders = world.has_its_own_orders_db().await;
    world.permits_everything().await;
    orders.postgres.sql(&format!("ALTER ROLE errand PASSWORD '{MANAGER}'")).await;
    fs::write(world.layout.dir().join("secrets/orders-db"), MANAGER).unwrap();

    // One secret of each kind.
    let task = world.holds_task("canary", &[READONLY]).await;
    let credential = Exchange::of(&task).to(READONLY).send(&world).await.granted();
    let token = Exchange::of(&task).send(&world).await.granted();
    let one_off = world.errand(["exchange", READONLY, "--as", "json"]).to_end().await.exited(0).json();
    let file = world.layout.dir().join("pgpass");
    let keep = format!("cat \"$PGPASSFILE\" > {}; sleep 600", file.display());
    let run = world.run(["--grant", READONLY, "--", "sh", "-c", &keep]).start();
    let pgpass = written(&file).await;
    fs::remove_file(&file).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
    let mut secrets = vec![
        ("the manager's password", MANAGER.as_bytes().to_vec()),
        ("a password from the token endpoint", text(&credential["credential"]["password"]).into_bytes()),
        ("a password of `errand exchange`", text(&one_off["credential"]["password"]).into_bytes()),
        ("a password of `errand run`", pgpass.rsplit(':').next().unwrap().as_bytes().to_vec()),
        ("a task token", text(&token["access_token"]).into_bytes()),
        ("a subject token", task.subject_token().as_bytes().to_vec()),
    ];
    let key = task.identity.key.expose();
    secrets.push(("the task's key", key[key.len() - 64..].to_vec()));

    let pids = [run.pid, world.server.process().pid(), world.node.process().pid()];
    let places = Places::of(&world, &pids, &[]).await;
    let role = text(&credential["credential"]["user"]);
    places.must_hold(
        &["journal export", "server/errand.db", "server.log", "node.log", "cmdline", "environ", "metrics", "/fd/"],
        &[("journal export", &role), ("server/errand.db", &role)],
    );
    places.must_not_hold(&secrets);
    run.kill();
    task.completes().await;
    // The task that `errand exchange` started for itself lasts as long as its credential.
    world.operator(["task", "revoke", world.journal("lease.handed").await[1]["task_id"].as_str().unwrap()]).await;
    orders.is_left_alone().await;
    world.ends_well().await;
}
