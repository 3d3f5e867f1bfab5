//! A server that gets no more memory while much is asked of it: it refuses or dies, and leaves behind what any death does.
//! Fault F36.

use crate::{
    process::{Server, seeds},
    steps::{all_leases, at_rest, verdict},
};
use futures_util::future::join_all;
use std::time::Duration;
use testkit::{
    postgres::PostgresFixture,
    process::{data, limit},
};
use tests_crash::{
    client::{Agent, CallError, Connection},
    world::{ROLES, World},
};

/// Deaths on one store, each with more room than the one before.
const DEATHS: u64 = 5;
const ROOM: u64 = 1024 * 1024;
const CLIENTS: usize = 24;
const ROUNDS: usize = 2;
/// The longest a client may wait for an answer or for its connection's end.
const ANSWER: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_memory_refuses_or_dies_and_forgets_nothing_it_said() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let mut agent = None;
    let mut bitten = 0;
    for seed in seeds(DEATHS) {
        let told = format!("ERRAND_SEED={seed}");
        let mut server = Server::start(&world, &[]).await;
        let agent = match &agent {
            Some(agent) => agent,
            None => agent.insert(Agent::attest(&server.hello).await.expect("the agent attests")),
        };
        let node = agent.at(&server.hello);
        limit(server.pid(), "core", 0);
        limit(server.pid(), "data", data(server.pid()) + seed * ROOM);
        let clients = join_all((0..CLIENTS).map(|n| client(&world, &server, &node, n)));
        let answers = tokio::time::timeout(ANSWER, clients).await;
        let answers = answers.unwrap_or_else(|_| panic!("{told}: it neither answers nor dies\n{}", world.log()));
        let refused = answers.iter().filter(|a| a.is_err()).count();
        let died = server.ends_within(Duration::from_millis(100)).await;
        bitten += usize::from(refused > 0 || died.is_some());
        if died.is_none() {
            server.kill().await;
        }

        let server = Server::start(&world, &[]).await;
        assert!(all_leases(&world, at_rest).await, "{told}\n{}", world.log());
        let (_, violations) = verdict(&world, &server.hello.admin).await;
        assert!(violations.is_empty(), "{told}\n{violations}\n{}", world.log());
        server.kill().await;
    }
    assert!(bitten > 0, "there was always memory enough");
}

async fn client(world: &World, server: &Server, node: &Connection, n: usize) -> Result<(), CallError> {
    for _ in 0..ROUNDS {
        let task = node.start(&format!("client {n}")).await?;
        let (credential, token) =
            tokio::join!(task.exchange(world, &server.hello, ROLES[n % 2]), task.token(world, &server.hello));
        credential.and(token)?;
        node.end(world, &task.id).await?;
    }
    Ok(())
}
