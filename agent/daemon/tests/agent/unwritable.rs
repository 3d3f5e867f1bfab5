//! A server that answers and cannot record: nothing new leaves it. Fault F6, as the agent sees it.

use crate::{
    fake::SVID_TTL,
    world::{SOON, World, next, problem, with_header},
};
use agent_daemon::AgentStatus;
use proto_wire::workload::JwtsvidRequest;
use std::time::Duration;
use testkit::poll::until;
use tonic::Code;

const WHY: &str = "the store is full: nothing can be recorded";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_cannot_record_what_is_held_is_served_and_the_agent_says_why_nothing_new_comes() {
    let world = World::new().await;
    world.create(world.entry("e", "/web")).await;
    let mut stream = world.x509().await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();

    world.server.state.script().unrecorded = Some(WHY.into());
    // Past its half-life, when the next one is due.
    world.clock.advance(SVID_TTL.mul_f64(0.56));
    until("the agent says why", SOON, async || problem(&world).await.contains(WHY)).await;
    assert_eq!(*world.agent().status().borrow(), AgentStatus::Ready, "the server is there");
    assert_eq!(next(&mut world.x509().await.unwrap()).await.unwrap().unwrap(), first);
    let request = JwtsvidRequest { audience: vec!["https://new.example.org".into()], spiffe_id: String::new() };
    let refused = world.workload().fetch_jwtsvid(with_header(request)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, WHY));

    // To its end, and not after: then with the reason.
    world.clock.advance(SVID_TTL.mul_f64(0.45));
    let over = next(&mut stream).await.unwrap_err();
    assert!(over.code() == Code::Unavailable && over.message().contains(WHY), "{over}");

    world.server.state.script().unrecorded = None;
    let healed = async || {
        world.clock.advance(Duration::from_secs(1));
        problem(&world).await.is_empty()
    };
    until("it is well again", SOON, healed).await;
    assert_ne!(next(&mut world.x509().await.unwrap()).await.unwrap().unwrap(), first);
}
