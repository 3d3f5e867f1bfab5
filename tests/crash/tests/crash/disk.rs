//! A disk that fails under a server: a sync that is not confirmed, and no space until there is some. Faults F5, F6 and F8.
//!
//! `ERRAND_FSYNCS` says how many failing syncs are tried.

use crate::{
    process::{Dice, Server, seeds},
    steps::{REST, all_leases, at_rest, verdict},
};
use futures_util::future::join_all;
use rusqlite::{Connection as Sqlite, OpenFlags};
use std::{fs, time::Duration};
use testkit::{
    disk::{Call, DiskFault, Outcome},
    poll,
    postgres::PostgresFixture,
};
use tests_crash::{
    client::{Agent, CallError, Connection, admin},
    world::{ROLES, World},
};

const DEATHS: u64 = 8;
/// A start and a few tasks sync so often.
const SYNCS: u64 = 30;
/// Rounds of work in which the failing sync must come.
const ROUNDS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_server_ends() {
    let pg = PostgresFixture::start().await;
    let deaths = std::env::var("ERRAND_FSYNCS").map_or(DEATHS, |n| n.parse().expect("ERRAND_FSYNCS is a number"));
    for seed in seeds(deaths) {
        let world = World::new(&pg);
        if let Err(why) = one_failure(&world, seed).await {
            panic!("ERRAND_SEED={seed}: {why}\n{}", world.log());
        }
    }
}

async fn one_failure(world: &World, seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    // Once, and the disk is good again; or from some moment on each time. The first two are of the file itself while the
    // server starts: when the log is switched on, and when it is folded in.
    let once = seed % 2 == 1;
    let bad = world.dir().join("bad");
    let fault = match (seed, once) {
        (1 | 3, _) => DiskFault::new(Call::Sync, "/errand.db", (seed as u32).div_ceil(2), Outcome::Io),
        (_, true) => DiskFault::new(Call::Sync, "/errand.db-wal", dice.roll(SYNCS) as u32, Outcome::Io),
        (_, false) => DiskFault::new(Call::Sync, "/errand.db-wal", 0, Outcome::Io).only_while(&bad),
    };
    let begun = Server::start_on(world, &fault).await;
    let mut agent = None;
    if let Some(mut server) = begun {
        agent = Agent::attest(&server.hello).await.ok();
        let turns = dice.roll(10) as usize;
        if let Some(agent) = &agent {
            let node = agent.at(&server.hello);
            for round in 0..ROUNDS {
                if !once && round == turns {
                    fs::write(&bad, "").map_err(|e| e.to_string())?;
                }
                if !works(world, &server, &node).await {
                    break;
                }
            }
        }
        if !server.dies_within(Duration::from_secs(20)).await {
            return Err("the server goes on".into());
        }
    }
    let server = Server::start(world, &[]).await;
    if !all_leases(world, at_rest).await {
        return Err("some leases did not come to rest".into());
    }
    let (_, violations) = verdict(world, &server.hello.admin).await;
    if !violations.is_empty() {
        return Err(violations.to_string());
    }
    if agent.is_none() && server.hello.join_token.is_some() {
        agent = Agent::attest(&server.hello).await.ok();
    }
    if let Some(agent) = agent {
        let node = agent.at(&server.hello);
        if !works(world, &server, &node).await {
            return Err("the server that was started again does not serve".into());
        }
    }
    server.kill().await;
    Ok(())
}

/// One task with a credential and an end; whether all of it was acknowledged.
async fn works(world: &World, server: &Server, node: &Connection) -> bool {
    let Ok(task) = node.start("look at an order").await else { return false };
    task.exchange(world, &server.hello, ROLES[0]).await.is_ok() && node.end(world, &task.id).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_is_full_releases_nothing_answers_readers_and_heals() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let full = world.dir().join("full");
    let fault = DiskFault::new(Call::Write, "/errand.db-wal", 0, Outcome::Full).only_while(&full);
    let server = Server::start_on(&world, &fault).await.expect("there is space while it starts");
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let tasks = join_all((0..4).map(|n| {
        let node = node.clone();
        async move { node.start(&format!("task {n}")).await.expect("the task starts") }
    }))
    .await;
    for task in &tasks {
        task.exchange(&world, &server.hello, ROLES[0]).await.expect("a credential");
    }
    let roles = verdict(&world, &server.hello.admin).await.0.roles;

    fs::write(&full, "").expect("write");
    for task in &tasks {
        let refused = task.exchange(&world, &server.hello, ROLES[1]).await;
        assert!(matches!(refused, Err(CallError::Refused { status: 503, .. })), "{refused:?}");
        assert!(task.token(&world, &server.hello).await.is_err(), "a token without its record");
        assert!(node.end(&world, &task.id).await.is_err(), "an end that is not recorded is not acknowledged");
    }
    assert!(node.start("another").await.is_err());
    let listed = admin(&server.hello.admin, "/v1/leases").await.expect("readers are answered");
    assert!(!listed.is_empty());
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!((violations.to_string().as_str(), &evidence.roles), ("", &roles), "nothing was made, nothing was lost");

    fs::remove_file(&full).expect("remove");
    let heals = async || node.end(&world, &tasks[0].id).await.is_ok();
    poll::until("what ends something goes through again", REST, heals).await;
    tasks[1].exchange(&world, &server.hello, ROLES[1]).await.expect("a credential, now that there is space");
    for task in &tasks[1..] {
        node.end(&world, &task.id).await.expect("the task ends");
    }
    assert!(all_leases(&world, |l| l.state.is_final()).await, "{}", world.log());
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", 0));
    server.kill().await;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = Sqlite::open_with_flags(world.store(), flags).expect("the store opens");
    let found: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(found, "ok");
}
