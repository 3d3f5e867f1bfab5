//! The checker itself: bugs are planted, and it must name them. A checker that finds nothing is no evidence.

use crate::{
    local::Local,
    steps::{REST, at_rest, verdict},
};
use proto_types::{Fut, Position, SpiffeId};
use server_core::ports::{Commit, CommitError, Durable, Guard, Ledger};
use server_daemon::Decorators;
use std::sync::Arc;
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    check::{Rule, Violations},
    client::Agent,
    point::says,
    world::{ROLES, World},
};

/// Answers that a unit with such a record is durable, and writes nothing.
struct Forgetful {
    inner: Arc<dyn Ledger>,
    kind: &'static str,
}

impl Ledger for Forgetful {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        Box::pin(async move {
            if says(&unit, self.kind) {
                return Ok(Durable::assertion(Position(0), vec![[0; 32]]));
            }
            self.inner.commit(unit).await
        })
    }
}

fn forgets(kind: &'static str) -> Decorators {
    let wrap = move |inner| -> Arc<dyn Ledger> { Arc::new(Forgetful { inner, kind }) };
    Decorators { ledger: Some(Box::new(wrap)), ..Decorators::default() }
}

/// One exchange against a server with these decorators: whether the client saw a credential, and the verdict.
async fn one_exchange(decorators: Decorators) -> (bool, Violations) {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Local::start(&world, decorators).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let task = agent.at(&server.hello).start("look at an order").await.expect("the task starts");
    let seen = task.exchange(&world, &server.hello, ROLES[0]).await.is_ok();
    let (_, violations) = verdict(&world, &server.hello.admin).await;
    server.running.stop().await;
    (seen, violations)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_nothing_wrong_is_found_to_do_nothing_wrong() {
    let (seen, violations) = one_exchange(Decorators::default()).await;
    assert!(seen);
    assert_eq!(violations.to_string(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_before_its_record_is_found() {
    let (seen, violations) = one_exchange(forgets("lease.handed")).await;
    assert!(seen, "the bug is that the client is answered");
    assert_eq!(violations.of(Rule::SeenWithoutRecord).count(), 1, "{violations}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_was_never_written_is_found() {
    let (_, violations) = one_exchange(forgets("lease.intended")).await;
    assert_eq!(violations.of(Rule::RoleWithoutLease).count(), 1, "{violations}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_never_written_is_found() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Local::start(&world, forgets("lease.revoking")).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let task = node.start("look at an order").await.expect("the task starts");
    task.exchange(&world, &server.hello, ROLES[0]).await.expect("a credential");
    node.end(&world, &task.id).await.expect("the end is answered");
    let (_, violations) = verdict(&world, &server.hello.admin).await;
    // The unit that ended the task would have ended its lease: both are forgotten.
    assert_eq!(violations.of(Rule::EndWithoutRecord).count(), 1, "{violations}");
    server.running.stop().await;
}

/// Takes join tokens without looking whether they were there: a delete whose row count nobody reads.
struct Careless(Arc<dyn Ledger>);

impl Ledger for Careless {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        let (guards, writes, records) = unit.into_parts();
        let mut records = records.into_iter();
        let mut unit = Commit::of(records.next().expect("a unit has a record"));
        unit = records.fold(unit, Commit::also);
        unit = guards.into_iter().filter(|g| !matches!(g, Guard::JoinToken(_))).fold(unit, Commit::when);
        self.0.commit(writes.into_iter().fold(unit, Commit::put))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_that_was_deleted_without_a_row_count_is_found() {
    let pg = PostgresFixture::start().await;
    let attested_twice = async |decorators| {
        let world = World::new(&pg);
        let server = Local::start(&world, decorators).await;
        Agent::attest(&server.hello).await.expect("the first one attests");
        // Another node may hold the same token; what makes it worth nothing is the commit alone.
        server.running.service.node_evict(&only_node(&server), None).await.expect("the node is forgotten");
        let again = Agent::attest(&server.hello).await.is_ok();
        let (_, violations) = verdict(&world, &server.hello.admin).await;
        server.running.stop().await;
        (again, violations.of(Rule::TokenSpentTwice).count())
    };
    let careless = |inner| -> Arc<dyn Ledger> { Arc::new(Careless(inner)) };
    let planted = Decorators { ledger: Some(Box::new(careless)), ..Decorators::default() };
    assert_eq!(attested_twice(planted).await, (true, 1));
    assert_eq!(attested_twice(Decorators::default()).await, (false, 0));
}

fn only_node(server: &Local) -> SpiffeId {
    server.running.service.read(|s| s.nodes.keys().next().cloned()).expect("one node")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_is_a_program_too_and_its_exit_status_tells() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Local::start(&world, Decorators::default()).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let task = node.start("look at an order").await.expect("the task starts");
    let credential = task.exchange(&world, &server.hello, ROLES[0]).await.expect("a credential");
    let (evidence, _) = verdict(&world, &server.hello.admin).await;
    assert_eq!(program(&world), (0, String::new()));
    // The role is dropped behind the server's back, and another one appears.
    let name = evidence.roles.first().expect("one role");
    let (rest, last) = name.split_at(name.len() - 1);
    let other = if last == "q" { "r" } else { "q" };
    pg.sql(&format!("DROP ROLE {name}; CREATE ROLE {rest}{other}")).await;
    let (status, printed) = program(&world);
    assert_eq!(status, 1);
    assert!(printed.contains(&format!("HandedWithoutRole: {{\"{name} ({})\"}}", credential.id)), "{printed}");
    assert!(printed.contains("RoleWithoutLease: "), "{printed}");
    node.end(&world, &task.id).await.expect("the task ends");
    poll::until("the lease is over", REST, async || server.leases().iter().all(at_rest)).await;
    server.running.stop().await;
}

fn program(world: &World) -> (i32, String) {
    let sources = world.sources();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ledger-check"));
    command.arg("--seen").arg(&sources.seen).arg("--journal").arg(&sources.journal);
    command.arg("--store").arg(&sources.store).arg("--target-url").arg(&sources.target_url);
    let output = command.output().expect("ledger-check runs");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}
