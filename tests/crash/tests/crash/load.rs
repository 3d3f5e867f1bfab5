//! A server that is killed at any moment while much is asked of it, again and again on one store. Fault F2, in short.

use crate::{
    process::{Dice, Server, seeds},
    steps::{all_leases, verdict},
};
use futures_util::future::join_all;
use proto_types::LeaseState::{Intended, Revoking};
use std::time::Duration;
use testkit::postgres::PostgresFixture;
use tests_crash::{
    client::{Agent, Connection},
    world::{ROLES, World},
};

/// Deaths on one store.
const CYCLES: usize = 12;
const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_at_any_moment_under_load_forgets_nothing_it_said() {
    let pg = PostgresFixture::start().await;
    for seed in seeds(1) {
        let world = World::new(&pg);
        let mut dice = Dice::new(seed);
        let server = Server::start(&world, &[]).await;
        let agent = Agent::attest(&server.hello).await.expect("the agent attests");
        server.kill().await;
        for cycle in 0..CYCLES {
            let server = Server::start(&world, &[]).await;
            let node = agent.at(&server.hello);
            let life = Duration::from_millis(dice.roll(400));
            // Dropped where they are: a client whose server is gone hears nothing more.
            let clients = join_all((0..CLIENTS).map(|n| client(&world, &server, &node, n)));
            let _ = tokio::time::timeout(life, clients).await;
            server.kill().await;
            let server = Server::start(&world, &[]).await;
            let told = format!("ERRAND_SEED={seed}, cycle {cycle}");
            assert!(all_leases(&world, |l| !matches!(l.state, Intended | Revoking)).await, "{told}\n{}", world.log());
            let (_, violations) = verdict(&world, &server.hello.admin).await;
            assert!(violations.is_empty(), "{told}\n{violations}\n{}", world.log());
            server.kill().await;
        }
    }
}

/// Tasks one after another, each with what tasks do, until the server is gone.
async fn client(world: &World, server: &Server, node: &Connection, n: usize) {
    while let Ok(task) = node.start(&format!("client {n}")).await {
        let asked = tokio::join!(
            task.exchange(world, &server.hello, ROLES[n % 2]),
            task.token(world, &server.hello),
            node.x509(world, &task.id),
        );
        if asked.0.is_err() || node.end(world, &task.id).await.is_err() {
            return;
        }
    }
}
