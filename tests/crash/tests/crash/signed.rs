//! A server that is killed around the release of what it signed: SVIDs, tokens, SSH certificates. Twenty times at each step;
//! no client ever holds one of which there is no record. Fault F1.

use crate::{
    kill::{name, wanted},
    process::{Dice, Server, seeds},
    steps::{all_leases, at_rest, verdict},
};
use futures_util::future::join_all;
use std::{fs, time::Duration};
use testkit::{openssh::key_pair, postgres::PostgresFixture};
use tests_crash::{
    client::{Agent, Connection, Task},
    point::Point,
    world::World,
};

const TASKS: usize = 4;
/// How often one run passes either point: a start signs two, each round four.
const PASSES: u64 = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_server_dies_nothing_signed_is_seen_without_its_record() {
    let pg = PostgresFixture::start().await;
    let keys = tempfile::tempdir().expect("a temporary directory");
    let key = key_pair(keys.path(), "id", &["-t", "ed25519"]).with_extension("pub");
    let key = fs::read_to_string(key).expect("a public key").trim().to_string();
    let mut failures = Vec::new();
    for point in [Point::Signed, Point::Recorded].into_iter().filter(|p| wanted(*p)) {
        for seed in seeds(20) {
            let world = World::new(&pg);
            if let Err(why) = one_death(&world, point, seed, &key).await {
                failures.push(format!("point {point:?}, ERRAND_SEED={seed}: {why}\n{}", world.log()));
            }
        }
    }
    assert!(failures.is_empty(), "{} runs failed\n{}", failures.len(), failures.join("\n"));
}

async fn one_death(world: &World, point: Point, seed: u64, key: &str) -> Result<(), String> {
    let mut dice = Dice::new(seed ^ (point as u64) << 32);
    let nth = dice.roll(PASSES).to_string();
    let mut server = Server::start(world, &["--point", name(point), "--nth", &nth].map(String::from)).await;
    let agent = Agent::attest(&server.hello).await.map_err(|e| format!("attesting: {e}"))?;
    let node = agent.at(&server.hello);
    let started = join_all((0..TASKS).map(|n| {
        let node = node.clone();
        async move { node.start(&format!("task {n}")).await }
    }));
    let tasks: Vec<Task> = started.await.into_iter().flatten().collect();
    join_all(tasks.iter().map(|task| everything(world, &server, &node, task, key))).await;
    if !server.dies_within(Duration::from_secs(20)).await {
        return Err("the server did not come by that point".into());
    }
    let server = Server::start(world, &[]).await;
    if !all_leases(world, at_rest).await {
        return Err("some leases did not come to rest".into());
    }
    let (_, violations) = verdict(world, &server.hello.admin).await;
    // Whoever lives on gets what it asks for, from a server that repeats no serial.
    let node = agent.at(&server.hello);
    for task in &tasks {
        node.x509(world, &task.id).await.map_err(|e| format!("an SVID after the restart: {e}"))?;
        task.certificate(world, &server.hello, key)
            .await
            .map_err(|e| format!("a certificate after the restart: {e}"))?;
    }
    let (_, later) = verdict(world, &server.hello.admin).await;
    server.kill().await;
    if violations.is_empty() && later.is_empty() { Ok(()) } else { Err(format!("{violations}{later}")) }
}

/// Four kinds at once, twice; what fails has died with the server.
async fn everything(world: &World, server: &Server, node: &Connection, task: &Task, key: &str) {
    for _ in 0..2 {
        let _ = tokio::join!(
            node.x509(world, &task.id),
            node.jwt(world, &task.id),
            task.token(world, &server.hello),
            task.certificate(world, &server.hello, key),
        );
    }
}
