//! Attested once, renewed, banned, restarted; and never by a server that is not the server.

use crate::{
    fake::{AGENT, AGENT_TTL, FakeServer, SVID_TTL},
    world::{SOON, World, ids, next},
};
use agent_daemon::AgentStatus;
use std::{os::unix::fs::PermissionsExt as _, time::Duration};
use testkit::poll::{holds_within, until};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_attested_once_and_a_restart_uses_what_it_has() {
    let mut world = World::new().await;
    assert_eq!(world.agent().id().unwrap().to_string(), AGENT);
    let file = world.dir.path().join("data/agent_svid.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    world.stop_agent().await;
    assert!(!world.socket().exists(), "the socket goes with the agent");
    world.start_agent().await;
    assert_eq!(world.server.state.script().attested, 1, "the token is spent; a second attestation would fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_killed_mid_write_starts_with_the_old_pair() {
    let mut world = World::new().await;
    world.stop_agent().await;
    std::fs::write(world.dir.path().join("data/agent_svid.json.new"), "{\"version\":1,\"cha").unwrap();
    world.start_agent().await;
    assert_eq!(world.server.state.script().attested, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_svid_is_renewed_at_half_life_and_the_new_one_is_presented() {
    let world = World::new().await;
    let state = world.server.state.clone();
    world.clock.advance(AGENT_TTL.mul_f64(0.56));
    world.while_time_passes("renewed", Duration::from_secs(1), || state.script().renewed == 1).await;
    until("the new serial is presented", SOON, || std::future::ready(state.script().serials.len() >= 2)).await;
    until("only the new pair is kept", SOON, || {
        let kept = std::fs::read_to_string(world.dir.path().join("data/agent_svid.json")).unwrap();
        std::future::ready(kept.contains("\"previous\":null"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_node_drops_everything_at_once() {
    let world = World::new().await;
    world.create(world.entry("e", "/web")).await;
    let mut stream = world.x509().await.unwrap();
    assert_eq!(ids(&next(&mut stream).await.unwrap().unwrap()), ["spiffe://example.org/web"]);
    world.server.state.ban();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied);
    let mut status = world.agent().status();
    let lost = status.wait_for(|s| matches!(s, AgentStatus::Lost { .. }));
    tokio::time::timeout(SOON, lost).await.unwrap().unwrap();
    assert!(!world.dir.path().join("data/agent_svid.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_what_is_held_is_served_to_its_end_and_not_after() {
    let mut world = World::new().await;
    world.create(world.entry("e", "/web")).await;
    let mut stream = world.x509().await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();
    world.server.go_away();
    let mut status = world.agent().status();
    let away = status.wait_for(|s| *s == AgentStatus::Disconnected);
    tokio::time::timeout(SOON, away).await.unwrap().unwrap();
    let mut second = world.x509().await.unwrap();
    assert_eq!(next(&mut second).await.unwrap().unwrap(), first, "the same SVID, while nobody answers");
    world.clock.advance(SVID_TTL + Duration::from_secs(1));
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    world.server.come_back();
    let clock = world.clock.clone();
    let came_back = holds_within(SOON, || {
        clock.advance(Duration::from_secs(5));
        std::future::ready(*world.agent().status().borrow() == AgentStatus::Ready)
    });
    assert!(came_back.await);
    let again = next(&mut world.x509().await.unwrap()).await.unwrap().unwrap();
    assert_ne!(again, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svids_are_renewed_at_half_life_and_pushed_to_open_streams() {
    let world = World::new().await;
    world.create(world.entry("e", "/web")).await;
    let mut stream = world.x509().await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();
    world.clock.advance(SVID_TTL.mul_f64(0.56));
    let second = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(ids(&second), ids(&first));
    assert_ne!(second.svids[0].x509_svid, first.svids[0].x509_svid);
    assert_ne!(second.svids[0].x509_svid_key, first.svids[0].x509_svid_key, "each has a key of its own");
}

/// Points an agent at `impostor`, with the CA in `ca.pem`, and lets time pass: nothing is said to it.
async fn says_nothing_to(world: &World, impostor: &FakeServer) {
    let text = world.config_text().replace(&world.server.addr.to_string(), &impostor.addr.to_string());
    let agent = world.launch(agent_daemon::AgentConfig::parse(&text).unwrap()).await;
    let clock = world.clock.clone();
    let spoken_to = holds_within(Duration::from_millis(300), || {
        clock.advance(Duration::from_secs(1));
        std::future::ready(impostor.state.script().attested > 0)
    });
    assert!(!spoken_to.await);
    assert_eq!(*agent.status().borrow(), AgentStatus::Starting);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_ca_is_never_spoken_to() {
    let mut world = World::without_agent();
    says_nothing_to(&world, &FakeServer::start(&world.clock)).await;
    world.start_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_under_the_right_ca_with_another_name_is_never_spoken_to() {
    let world = World::without_agent();
    for name in ["spiffe://example.org/web", "spiffe://other.org/spire/server", "spiffe://example.org/spire/server/x"] {
        let impostor = FakeServer::start_as(&world.clock, name);
        std::fs::write(world.dir.path().join("ca.pem"), &impostor.state.ca.pem).unwrap();
        says_nothing_to(&world, &impostor).await;
    }
    let right = FakeServer::start_as(&world.clock, "spiffe://example.org/spire/server");
    std::fs::write(world.dir.path().join("ca.pem"), &right.state.ca.pem).unwrap();
    let text = world.config_text().replace(&world.server.addr.to_string(), &right.addr.to_string());
    let agent = world.launch(agent_daemon::AgentConfig::parse(&text).unwrap()).await;
    tokio::time::timeout(SOON, agent.ready()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insecure_bootstrap_believes_the_first_server_and_keeps_its_bundle() {
    let world = World::without_agent();
    let trusted = format!("trust_bundle = \"{}/ca.pem\"", world.dir.path().display());
    let text = world.config_text().replace(&trusted, "danger_insecure_bootstrap = true");
    let agent = world.launch(agent_daemon::AgentConfig::parse(&text).unwrap()).await;
    tokio::time::timeout(SOON, agent.ready()).await.unwrap().unwrap();
    assert!(world.dir.path().join("data/bundle.json").exists());
    agent.stop().await;
}
