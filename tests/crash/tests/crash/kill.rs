//! A server that is killed at a named step of issuing or ending, twenty times each, and started again.

use crate::{
    process::{Dice, Server, seeds},
    steps::{all_leases, at_rest, verdict},
};
use futures_util::{StreamExt as _, future::join_all, stream};
use proto_types::CredentialInfo;
use sqlx::{Connection as _, PgConnection};
use std::time::Duration;
use testkit::postgres::PostgresFixture;
use tests_crash::{
    client::{Agent, Connection, Task},
    point::Point,
    world::{ROLES, World},
};

const TASKS: usize = 8;
/// Tasks that end while others exchange.
const ENDING: usize = 4;

/// Where it dies, how often that is tried, and how often one run passes there.
const POINTS: [(Point, u64, u64); 8] = [
    (Point::Intent, 20, 16),
    (Point::Create, 20, 16),
    (Point::Handed, 20, 16),
    (Point::Reply, 20, 16),
    (Point::BeforeIntent, 5, 16),
    (Point::DuringCreate, 10, 16),
    (Point::Ended, 5, 4),
    (Point::Revoke, 5, 8),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_server_dies_no_lease_is_forgotten_and_no_credential_is_without_its_record() {
    let pg = PostgresFixture::start().await;
    let runs = POINTS.iter().flat_map(|(point, n, passes)| seeds(*n).into_iter().map(|s| (*point, s, *passes)));
    let runs = runs.filter(|(point, ..)| wanted(*point));
    let failures: Vec<String> = stream::iter(runs)
        .map(|(point, seed, passes)| {
            let pg = &pg;
            async move {
                let told = |why| format!("point {point:?}, ERRAND_SEED={seed}:\n{why}");
                one_death(pg, point, seed, passes).await.err().map(told)
            }
        })
        .buffer_unordered(2)
        .filter_map(async |failure| failure)
        .collect()
        .await;
    assert!(failures.is_empty(), "{} runs failed\n{}", failures.len(), failures.join("\n"));
}

/// `ERRAND_POINT=Create` runs that point only.
pub fn wanted(point: Point) -> bool {
    std::env::var("ERRAND_POINT").map_or(true, |only| only == format!("{point:?}"))
}

async fn one_death(pg: &PostgresFixture, point: Point, seed: u64, passes: u64) -> Result<(), String> {
    let world = World::new(pg);
    match run(pg, &world, point, seed, passes).await {
        Ok(()) => Ok(()),
        Err(why) => Err(format!("{why}\n{}\nkept in {}", world.log(), world.keep().display())),
    }
}

async fn run(pg: &PostgresFixture, world: &World, point: Point, seed: u64, passes: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed ^ (point as u64) << 32);
    let bomb = ["--point", name(point), "--nth", &dice.roll(passes).to_string(), "--delay", &dice.roll(25).to_string()];
    let mut server = Server::start(world, &bomb.map(String::from)).await;
    let agent = Agent::attest(&server.hello).await.map_err(|e| format!("attesting: {e}"))?;
    let node = agent.at(&server.hello);
    let started = join_all((0..TASKS).map(|n| started(&node, n))).await;
    let tasks: Vec<Task> = started.into_iter().collect::<Result<_, _>>()?;

    let mut order: Vec<usize> = (0..TASKS).collect();
    dice.shuffle(&mut order);
    let work = order.iter().map(|n| work(world, &server, &node, &tasks[*n], *n < ENDING));
    let seen: Vec<(usize, CredentialInfo)> =
        join_all(work).await.into_iter().zip(&order).flat_map(|(seen, n)| seen.into_iter().map(|c| (*n, c))).collect();
    if !server.dies_within(Duration::from_secs(20)).await {
        return Err("the server did not come by that point".into());
    }

    let server = Server::start(world, &[]).await;
    if !all_leases(world, at_rest).await {
        return Err("after the restart some leases did not come to rest".into());
    }
    let (_, violations) = verdict(world, &server.hello.admin).await;
    if !violations.is_empty() {
        return Err(format!("after the restart:\n{violations}"));
    }
    let session = log_in(pg, seen.iter().find(|(n, _)| *n >= ENDING).map(|(_, c)| c)).await?;
    let node = agent.at(&server.hello);
    for ended in join_all(tasks.iter().map(|t| node.end(world, &t.id))).await {
        ended.map_err(|e| format!("ending a task after the restart: {e}"))?;
    }
    if !all_leases(world, |l| l.state.is_final()).await {
        return Err("some leases were not over after their tasks had ended".into());
    }
    let (evidence, violations) = verdict(world, &server.hello.admin).await;
    drop(session);
    server.kill().await;
    if !violations.is_empty() {
        return Err(format!("after all tasks had ended:\n{violations}"));
    }
    match evidence.roles.is_empty() && evidence.sessions.is_empty() {
        true => Ok(()),
        false => Err(format!("left in the target: {:?} {:?}", evidence.roles, evidence.sessions)),
    }
}

async fn started(node: &Connection, n: usize) -> Result<Task, String> {
    node.start(&format!("task {n}")).await.map_err(|e| format!("starting a task: {e}"))
}

/// What one task does until the server dies under it; the credentials it saw.
async fn work(world: &World, server: &Server, node: &Connection, task: &Task, ends: bool) -> Vec<CredentialInfo> {
    let seen = join_all(ROLES.map(|role| task.exchange(world, &server.hello, role))).await;
    if ends {
        // Its answer may be lost with the server; then nothing is written down.
        let _ = node.end(world, &task.id).await;
    }
    seen.into_iter().flatten().collect()
}

/// A credential that was seen, of a task that goes on, still opens the door after the restart.
async fn log_in(pg: &PostgresFixture, seen: Option<&CredentialInfo>) -> Result<Option<PgConnection>, String> {
    let Some(seen) = seen else { return Ok(None) };
    let field = |name: &str| seen.fields.get(name).and_then(|v| v.as_str()).unwrap_or_default();
    let mut session = pg
        .connect(field("user"), field("password"), pg.database())
        .await
        .map_err(|e| format!("a credential that was handed before the server died: {e}"))?;
    session.ping().await.map_err(|e| e.to_string())?;
    Ok(Some(session))
}

pub fn name(point: Point) -> &'static str {
    match point {
        Point::BeforeIntent => "before-intent",
        Point::Intent => "intent",
        Point::DuringCreate => "during-create",
        Point::Create => "create",
        Point::Handed => "handed",
        Point::Signed => "signed",
        Point::Recorded => "recorded",
        Point::Reply => "reply",
        Point::Ended => "ended",
        Point::Revoke => "revoke",
    }
}
