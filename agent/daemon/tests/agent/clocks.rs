//! Two clocks that do not agree, and one that leaps. Faults F12 and F13.

use crate::{
    fake::{AGENT_TTL, FakeServer},
    world::{SOON, World, next, problem, with_header},
};
use agent_daemon::{AgentStatus, Running};
use proto_types::{Clock as _, Timestamp};
use proto_wire::workload::JwtsvidRequest;
use std::time::Duration;
use testkit::{fakes::FakeClock, poll::holds_within};
use tonic::{Code, Status};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// A clock so many seconds off the server's.
fn off(world: &World, seconds: i64) -> FakeClock {
    FakeClock::at(Timestamp::from_millis(world.clock.now().as_millis() + 1000 * seconds))
}

/// An agent with such a clock, and an entry that waits for it.
async fn agent(world: &World, clock: &FakeClock) -> Running {
    world.server.state.create(world.entry("e", "/web"));
    world.launch_by(world.config(), clock).await
}

async fn ready(agent: &Running) {
    tokio::time::timeout(SOON, agent.ready()).await.unwrap().unwrap();
}

async fn x509(world: &World) -> Result<(), Status> {
    next(&mut world.x509().await?).await.map(drop)
}

async fn jwt(world: &World) -> Result<(), Status> {
    let request = JwtsvidRequest { audience: vec!["https://a.example.org".into()], spiffe_id: String::new() };
    world.workload().fetch_jwtsvid(with_header(request)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_half_a_minute_apart_disturb_nobody() {
    for seconds in [-30, 30] {
        let world = World::without_agent();
        let agent = agent(&world, &off(&world, seconds)).await;
        ready(&agent).await;
        x509(&world).await.unwrap();
        jwt(&world).await.unwrap();
        assert_eq!(problem(&world).await, "", "{seconds}");
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_further_apart_are_named_with_who_is_ahead_and_by_how_much() {
    for (seconds, words) in [
        (-31, "this machine's clock is 31s behind the server's"),
        (31, "this machine's clock is 31s ahead of the server's"),
        (-5 * MINUTE, "this machine's clock is 5m behind the server's"),
        (5 * MINUTE, "this machine's clock is 5m ahead of the server's"),
        (HOUR, "this machine's clock is 1h ahead of the server's"),
    ] {
        let mut world = World::without_agent();
        // A server that was just started has a certificate of half a minute ago.
        world.server = FakeServer::start_since(&world.clock, Duration::from_secs(2 * HOUR as u64));
        std::fs::write(world.dir.path().join("ca.pem"), &world.server.state.ca.pem).unwrap();
        let agent = agent(&world, &off(&world, seconds)).await;
        ready(&agent).await;
        let said = problem(&world).await;
        assert!(said.contains(words) && said.contains("date -u"), "{seconds}: {said}");
        // What is over by this clock when it comes is not served, and its reason is told.
        if seconds >= 5 * MINUTE {
            let refused = jwt(&world).await.unwrap_err();
            assert!(refused.code() == Code::Unavailable && refused.message().contains(words), "{refused}");
        }
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_believed_at_this_time_is_said_to_be_of_another_time() {
    for (seconds, words) in [
        (-5 * MINUTE, "begins in 4m30s by this machine's clock, which is behind the server's by 4m30s or more"),
        (-HOUR, "begins in 59m30s by this machine's clock, which is behind the server's by 59m30s or more"),
        (2 * HOUR, "ended 1h ago by this machine's clock, which is ahead of the server's by 1h or more"),
    ] {
        let mut world = World::without_agent();
        world.server = FakeServer::start_for(&world.clock, Duration::from_secs(HOUR as u64));
        std::fs::write(world.dir.path().join("ca.pem"), &world.server.state.ca.pem).unwrap();
        let clock = off(&world, seconds);
        let agent = agent(&world, &clock).await;
        let said = holds_within(SOON, async || {
            clock.advance(Duration::from_millis(1));
            x509(&world).await.is_err_and(|status| status.message().contains(words))
        });
        assert!(said.await, "{seconds}: {:?}", x509(&world).await);
        assert_eq!(*agent.status().borrow(), AgentStatus::Starting);
        assert_eq!(world.server.state.script().attested, 0, "nothing was said to it");
        agent.stop().await;
    }
}

/// A machine that sleeps: the clock is hours later, and no timer has run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_slept_until_its_join_token_s_identity_was_over_says_so_and_what_to_do() {
    let world = World::new().await;
    world.create(world.entry("e", "/web")).await;
    let mut stream = world.x509().await.unwrap();
    next(&mut stream).await.unwrap().unwrap();
    assert_eq!(problem(&world).await, "");

    world.clock.set(world.clock.now().plus(AGENT_TTL + Duration::from_secs(HOUR as u64)));
    assert!(problem(&world).await.contains("the agent's SVID expired at "), "{}", problem(&world).await);
    let mut status = world.agent().status();
    let noticed = holds_within(SOON, || {
        world.clock.advance(Duration::from_secs(1));
        std::future::ready(matches!(&*status.borrow_and_update(), AgentStatus::Lost { .. }))
    });
    assert!(noticed.await, "{:?}", *world.agent().status().borrow());
    let said = problem(&world).await;
    assert!(said.contains("the agent's SVID has expired") && said.contains("errand node token"), "{said}");
    let over = next(&mut stream).await.unwrap_err();
    assert!(over.message().contains("nothing to serve: the agent's SVID"), "what expired is not served: {over}");
}
