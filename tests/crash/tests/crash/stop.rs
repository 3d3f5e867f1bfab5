//! A server that is told to stop, or to read its configuration again, while much is asked of it. Fault F38.

use crate::{
    process::{Dice, Server, seeds},
    steps::{all_leases, at_rest, verdict},
};
use futures_util::future::{join_all, try_join_all};
use nix::sys::signal::Signal;
use proto_types::LeaseState;
use server_core::lease::from_record;
use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{Agent, CallError, Connection, Task},
    evidence::{Evidence, Store},
    seen::Seen,
    world::{Hello, ROLES, World},
};
use tokio::net::TcpStream;

/// What is promised of SIGTERM.
const DRAINED: Duration = Duration::from_secs(10);
const CLIENTS: usize = 6;
const ROUNDS: usize = 4;
const STOPS: u64 = 5;

/// Tasks of which each has asked for a credential that the target does not make while `held` is.
struct Waiting {
    held: sqlx::PgConnection,
    agent: Agent,
    asked: tokio::task::JoinHandle<Vec<Result<(), CallError>>>,
}

impl Waiting {
    async fn at(pg: &PostgresFixture, world: &Arc<World>, hello: &Hello) -> Self {
        let agent = Agent::attest(hello).await.expect("the agent attests");
        let node = agent.at(hello);
        let tasks = try_join_all((0..CLIENTS).map(|n| start(&node, n))).await.expect("the tasks start");
        let mut held = pg.admin().await;
        let lock = "BEGIN; LOCK TABLE pg_catalog.pg_authid IN EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut held).await.expect("roles wait");
        let (own, at) = (world.clone(), hello.clone());
        let asked = tokio::spawn(async move {
            let asked = tasks.iter().map(|t| async { t.exchange(&own, &at, ROLES[0]).await.map(drop) });
            join_all(asked).await
        });
        let under_way = async || {
            let leases = Store::open(&world.store()).and_then(|s| s.leases()).expect("the store can be read");
            leases.iter().filter(|l| l.state == LeaseState::Intended).count() == CLIENTS
        };
        poll::until("all are under way", DRAINED, under_way).await;
        Self { held, agent, asked }
    }
}

async fn start(node: &Connection, n: usize) -> Result<Task, CallError> {
    node.start(&format!("client {n}")).await
}

async fn takes_nothing_new(hello: &Hello) {
    let refused =
        async || TcpStream::connect(hello.mtls).await.is_err() && TcpStream::connect(hello.grpc).await.is_err();
    poll::until("nobody listens any more", DRAINED, refused).await;
}

/// A server that was told to stop while it had exchanges under way.
async fn stopping(pg: &PostgresFixture) -> (Arc<World>, Server, Waiting) {
    let world = Arc::new(World::new(pg));
    let server = Server::start(&world, &[]).await;
    let waiting = Waiting::at(pg, &world, &server.hello).await;
    server.signal(Signal::SIGTERM);
    takes_nothing_new(&server.hello).await;
    (world, server, waiting)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_told_to_stop_answers_what_it_began_and_takes_nothing_new() {
    let pg = PostgresFixture::start().await;
    let (world, mut server, waiting) = stopping(&pg).await;
    // It has no meaning any more, and ends nothing either.
    server.signal(Signal::SIGHUP);
    drop(waiting.held);
    for answer in waiting.asked.await.expect("they end") {
        answer.expect("what was begun is answered");
    }
    let ended = server.ends_within(DRAINED).await.expect("it ends in time");
    assert_eq!(ended.code(), Some(0), "{}", world.log());

    let server = Server::start(&world, &[]).await;
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", CLIENTS));
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_told_twice_to_stop_waits_for_nothing_and_forgets_nothing() {
    let pg = PostgresFixture::start().await;
    let (world, mut server, waiting) = stopping(&pg).await;
    server.signal(Signal::SIGTERM);
    // What is under way cannot be finished before the lock is gone: an end that waits for it has another status.
    let ended = server.ends_within(DRAINED).await.expect("it ends");
    assert_eq!(ended.code(), Some(1), "{}", world.log());
    assert!(waiting.asked.await.expect("they end").iter().all(Result::is_err), "nothing can have been made");

    drop(waiting.held);
    let server = Server::start(&world, &[]).await;
    assert!(all_leases(&world, |l| l.state.is_final()).await, "{}", world.log());
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", 0), "{}", world.log());
    let task = start(&waiting.agent.at(&server.hello), 0).await.expect("the task starts");
    task.exchange(&world, &server.hello, ROLES[0]).await.expect("it serves again");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_recorded_before_it_stopped_under_load_its_clients_have() {
    let pg = PostgresFixture::start().await;
    for seed in seeds(1) {
        let world = World::new(&pg);
        let mut dice = Dice::new(seed);
        let mut agent = None;
        for stop in 0..STOPS {
            let told = format!("ERRAND_SEED={seed}, stop {stop}");
            let mut server = Server::start(&world, &[]).await;
            let agent = match &agent {
                Some(agent) => agent,
                None => agent.insert(Agent::attest(&server.hello).await.expect("the agent attests")),
            };
            let node = agent.at(&server.hello);
            let (credentials, wanted) = (AtomicU64::new(0), dice.roll(30));
            let stopping = async {
                poll::until(&told, DRAINED, async || credentials.load(Ordering::SeqCst) >= wanted).await;
                server.signal(Signal::SIGTERM);
            };
            tokio::join!(
                join_all((0..CLIENTS).map(|n| client(&world, &server.hello, &node, n, &credentials))),
                stopping
            );
            let ended =
                server.ends_within(DRAINED).await.unwrap_or_else(|| panic!("{told}: it goes on\n{}", world.log()));
            assert_eq!(ended.code(), Some(0), "{told}\n{}", world.log());

            let server = Server::start(&world, &[]).await;
            assert!(all_leases(&world, at_rest).await, "{told}\n{}", world.log());
            let (evidence, violations) = verdict(&world, &server.hello.admin).await;
            assert!(violations.is_empty(), "{told}\n{violations}\n{}", world.log());
            assert_eq!(cut_off(&evidence), BTreeSet::new(), "{told}\n{}", world.log());
            server.kill().await;
        }
    }
}

/// Tasks one after another, each with what tasks do, until the server takes nothing more.
async fn client(world: &World, hello: &Hello, node: &Connection, n: usize, credentials: &AtomicU64) {
    while let Ok(task) = start(node, n).await {
        let (credential, _) = tokio::join!(task.exchange(world, hello, ROLES[n % 2]), task.token(world, hello));
        if credential.is_err() || node.end(world, &task.id).await.is_err() {
            return;
        }
        credentials.fetch_add(1, Ordering::SeqCst);
    }
}

/// What is in the journal as released or ended, of which no client heard.
fn cut_off(evidence: &Evidence) -> BTreeSet<String> {
    let heard: BTreeSet<&str> = evidence
        .seen
        .iter()
        .map(|seen| match seen {
            Seen::Credential { lease, .. } => lease.as_str(),
            Seen::Signed { id, .. } => id.as_str(),
            Seen::Ended { task } => task.as_str(),
        })
        .collect();
    let recorded = evidence.records.iter().filter_map(|(_, record)| match record.kind.as_str() {
        "lease.handed" => from_record(record).map(|lease| lease.id.to_string()),
        "token.issued" => record.credential.as_ref().map(|issued| issued.id.clone()),
        "task.ended" => record.task_id.map(|task| task.to_string()),
        _ => None,
    });
    recorded.filter(|id| !heard.contains(id.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reloads_changes_nothing_and_loses_no_request() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Server::start(&world, &[]).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let declared = |evidence: &Evidence| -> Vec<u64> {
        let of = |kind: &str| kind.starts_with("target.") || kind.starts_with("policy.");
        evidence.records.iter().filter(|(_, r)| of(&r.kind)).map(|(at, _)| *at).collect()
    };
    let before = declared(&verdict(&world, &server.hello.admin).await.0);
    let asked = try_join_all((0..CLIENTS).map(|n| rounds(&world, &server.hello, &node, n)));
    let storm = async {
        loop {
            server.signal(Signal::SIGHUP);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answers = asked => drop(answers.expect("no request is lost")),
        () = storm => {}
    }
    assert!(all_leases(&world, |l| l.state.is_final()).await, "{}", world.log());
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", 0));
    assert_eq!(declared(&evidence), before, "what was declared already is not declared anew");
    let handed = evidence.records.iter().filter(|(_, r)| r.kind == "lease.handed").count();
    assert_eq!((handed, cut_off(&evidence)), (CLIENTS * ROUNDS, BTreeSet::new()));

    // They were heeded all the same.
    let task = start(&node, 0).await.expect("the task starts");
    fs::write(world.policy_file(), "@id(\"crash\")\nforbid (principal, action, resource);\n").expect("write");
    server.signal(Signal::SIGHUP);
    let denied = async || {
        matches!(task.exchange(&world, &server.hello, ROLES[0]).await, Err(CallError::Refused { status: 400..500, .. }))
    };
    poll::until("the new policy is in force", DRAINED, denied).await;
    server.kill().await;
}

async fn rounds(world: &World, hello: &Hello, node: &Connection, n: usize) -> Result<(), CallError> {
    for _ in 0..ROUNDS {
        let task = start(node, n).await?;
        tokio::try_join!(task.exchange(world, hello, ROLES[n % 2]), task.token(world, hello))?;
        node.end(world, &task.id).await?;
    }
    Ok(())
}
