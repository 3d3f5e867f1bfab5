//! A server that has no descriptor left: its listeners wait for some, and go on when there are. Fault F37.

use crate::{
    process::{REACTS, Server},
    steps::{all_leases, verdict},
};
use futures_util::future::try_join_all;
use proto_types::{Clock as _, SystemClock};
use std::time::Duration;
use testkit::{
    poll,
    postgres::PostgresFixture,
    process::{computed, descriptors, limit},
};
use tests_crash::{
    client::{Agent, admin, get, is_ready},
    world::{ROLES, World},
};

/// Descriptors that are left for connections.
const ROOM: u64 = 16;
/// Long enough for a loop that does not wait.
const A_WHILE: Duration = Duration::from_millis(1500);
/// Between two attempts of one listener, at least.
const PAUSE_MS: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_descriptors_waits_for_some_and_then_answers_whoever_waited() {
    const KEYS: &str = "/.well-known/openid-configuration";
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Server::start(&world, &[]).await;
    let hello = &server.hello;
    let agent = Agent::attest(hello).await.expect("the agent attests");
    let node = agent.at(hello);
    let task = node.start("look at an order").await.expect("the task starts");

    let most = descriptors(server.pid()) + ROOM;
    limit(server.pid(), "nofile", most);
    let mut idle = Vec::new();
    let failed = |at: &str| {
        let said = format!("at=\"{at}\"");
        world.log().lines().filter(|l| l.contains("could not be accepted") && l.contains(&said)).count() as u64
    };
    let public = hello.public.to_string();
    poll::until("no descriptor is left", REACTS, || {
        idle.push(std::net::TcpStream::connect(hello.public).expect("the kernel accepts"));
        std::future::ready(failed(&public) > 0)
    })
    .await;

    // Each listener has somebody who waits.
    let again = agent.at(hello);
    let waiting = async {
        tokio::try_join!(
            async { again.start("look again").await },
            task.exchange(&world, hello, ROLES[0]),
            async { get(hello.http, KEYS).await },
            async { get(hello.public, KEYS).await },
            admin(&hello.admin, "/v1/leases"),
            is_ready(hello.metrics),
        )
    };
    let everywhere = [hello.grpc, hello.mtls, hello.http, hello.public, hello.metrics].map(|addr| addr.to_string());
    let everywhere = [&everywhere[..], &["the admin socket".into()]].concat();
    let watching = async {
        poll::until("each listener found that out", REACTS, async || everywhere.iter().all(|at| failed(at) > 0)).await;
        let (before, cpu) = (SystemClock.now(), computed(server.pid()));
        let tries: Vec<u64> = everywhere.iter().map(|at| failed(at)).collect();
        SystemClock.sleep(A_WHILE).await;
        let tries: Vec<u64> = everywhere.iter().zip(tries).map(|(at, before)| failed(at) - before).collect();
        let (cpu, passed) = (computed(server.pid()) - cpu, SystemClock.now().since(before).as_millis() as u64);
        assert!(tries.iter().all(|n| *n <= passed / PAUSE_MS + 2), "{tries:?} attempts within {passed} ms");
        assert!(cpu < passed / 2, "{cpu} of {passed} ms computed");
        // Who is connected is served meanwhile.
        node.start("look at another").await.expect("the task starts");
        idle.clear();
    };
    let (answered, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(20), waiting), watching);
    let (second, ..) = answered.expect("all are answered").unwrap_or_else(|e| panic!("{e}\n{}", world.log()));

    let tasks = [&task, &second];
    try_join_all(tasks.map(|t| t.exchange(&world, hello, ROLES[1]))).await.expect("credentials");
    try_join_all(tasks.map(|t| node.end(&world, &t.id))).await.expect("the tasks end");
    assert!(all_leases(&world, |l| l.state.is_final()).await, "{}", world.log());
    let (evidence, violations) = verdict(&world, &hello.admin).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", 0));
    server.kill().await;
}
