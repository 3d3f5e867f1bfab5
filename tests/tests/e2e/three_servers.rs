//! Several servers on one database: the example as a newcomer runs it, and a store that moves into one.

use std::{path::Path, process::Stdio};
use testkit::postgres::PostgresFixture;
use tests::world::{World, errand_binary, get};

#[tokio::test]
async fn servers_die_and_the_database_stands_still_and_a_task_goes_on() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/three-servers/run.sh");
    let mut command = tokio::process::Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "bash"]).arg(script);
    command.env("ERRAND_BIN", errand_binary()).env("SHORT", "1").stdin(Stdio::null()).kill_on_drop(true);
    let told = command.output().await.expect("bash runs");
    let (said, why) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{said}\n{why}");
    assert!(said.contains("no lease is open in any server"), "{said}");
}

#[tokio::test]
async fn an_embedded_store_moves_into_a_database_and_its_agents_go_on() {
    let pg = PostgresFixture::start().await;
    let mut world = World::of_processes().await;
    world.permits_everything().await;
    world.run(["--intent", "before", "--", "true"]).to_end().await.exited(0);
    let keys = async |world: &World| get(&world.layout.ca_file(), world.layout.public, "/keys").await.json();
    let before = keys(&world).await;
    let vkey = world.errand(["journal", "checkpoint", "--vkey"]).to_end().await.exited(0).stdout;
    let kept = world.errand(["journal", "checkpoint"]).to_end().await.exited(0).stdout;
    let kept = world.layout.write("kept.checkpoint", &kept);

    // A backup is taken while the server runs.
    let config = world.layout.dir().join("server.toml").display().to_string();
    let backup = world.layout.dir().join("backup.db").display().to_string();
    let taken = ["store", "backup", "--config", &config, "--to", &backup, "--output", "json"];
    let taken = world.errand(taken).to_end().await.exited(0).json();
    assert!(taken["records"].as_u64().unwrap() > 10 && Path::new(&backup).exists(), "{taken}");

    let (from, to) = (format!("sqlite://{}", world.layout.store().display()), pg.store_url("moved").await);
    let password = pg.manager_password_file().display().to_string();
    let copy = ["store", "copy", "--from", &from, "--to", &to, "--password-file", &password, "--output", "json"];
    world.errand(copy).to_end().await.exited(1).said("open in another server");
    world.server.pause().await;
    let copied = world.errand(copy).to_end().await.exited(0).json();
    assert!(copied["records"].as_u64().unwrap() > 10, "{copied}");
    assert!(!world.layout.store().exists());

    let section = format!("[store]\nurl = \"{to}\"\npassword_file = \"{password}\"\n");
    let config = world.layout.dir().join("server.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let config = world.layout.write("server.toml", &format!("{text}{section}"));
    let checked =
        world.errand(["store", "check", "--config", &config, "--output", "json"]).to_end().await.exited(0).json();
    assert_eq!((&checked["root"], &checked["records"]), (&copied["root"], &copied["records"]));
    world.server.start_again().await;

    assert_eq!(keys(&world).await, before, "the same keys are published");
    let verify = ["journal", "verify", "--key", vkey.trim(), "--since", &kept];
    world.errand(verify).to_end().await.exited(0);
    world.workload_is_served().await;
    world.run(["--intent", "after", "--", "true"]).to_end().await.exited(0);
    assert_eq!(world.journal("node.attested").await.len(), 1, "the agent did not attest again");
    world.ends_well().await;
}
