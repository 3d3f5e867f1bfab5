//! Several servers: which is called, and that another is when that one is gone, silent or of no use. Fault F43.

use crate::{
    fake::FakeServer,
    link::{Link, Proxy},
    world::{SOON, World, next},
};
use agent_daemon::{AgentConfig, AgentStatus, Running};
use proto_wire::errand::v1::GetInfoRequest;
use std::time::Duration;
use testkit::{dns::DnsFixture, poll::until};

const SERVICE: &str = "_errand._tcp.example.test";
const STEP: Duration = Duration::from_millis(20);

/// An agent that is ready and was told of these servers, as TOML.
async fn agent(world: &World, servers: &str) -> Running {
    let one = format!("server = [\"{}\"]", world.server.addr);
    let config = AgentConfig::parse(&world.config_text().replace(&one, servers)).unwrap();
    let agent = world.launch(config).await;
    tokio::time::timeout(SOON, agent.ready()).await.unwrap().unwrap();
    agent
}

fn list(servers: &[&FakeServer]) -> String {
    format!("server = {:?}", servers.iter().map(|s| s.addr.to_string()).collect::<Vec<_>>())
}

/// The one of them that the agent is with.
fn with(servers: &[&FakeServer], before: &[usize]) -> usize {
    let came: Vec<_> = servers.iter().zip(before).map(|(s, n)| s.taken() - n).collect();
    came.iter().position(|n| *n > 0).unwrap_or_else(|| panic!("{came:?}"))
}

/// Waits until the agent has lost its server; then until it is with one again. The time that passed between by its clock.
async fn moves(world: &World, agent: &Running) -> Duration {
    let mut status = agent.status();
    let away = status.wait_for(|s| *s == AgentStatus::Disconnected);
    tokio::time::timeout(SOON, away).await.expect("the loss is noticed").unwrap();
    let mut passed = Duration::ZERO;
    until("the agent is with a server again", SOON, || {
        let ready = *agent.status().borrow() == AgentStatus::Ready;
        if !ready {
            passed += STEP;
            world.clock.advance(STEP);
        }
        std::future::ready(ready)
    })
    .await;
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_server_is_gone_is_with_another_at_once_and_serves_on() {
    let mut world = World::without_agent();
    let mut other = world.server.another();
    world.server.state.create(world.entry("e", "/web"));
    let agent = agent(&world, &list(&[&world.server, &other])).await;
    let mut stream = world.x509().await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();
    // Whichever it is with: its connection breaks, and nobody listens there.
    let before = [world.server.taken(), other.taken()];
    let was = with(&[&world.server, &other], &[0, 0]);
    if was == 0 {
        world.server.go_away()
    } else {
        other.go_away()
    }
    let passed = moves(&world, &agent).await;
    assert!(passed < Duration::from_secs(2), "{passed:?}");
    assert_eq!(next(&mut world.x509().await.unwrap()).await.unwrap().unwrap(), first, "what it held it serves");
    assert_eq!(with(&[&world.server, &other], &before), 1 - was);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_is_left_within_two_seconds_when_there_is_another() {
    let world = World::without_agent();
    let other = world.server.another();
    let proxy = Proxy::before(world.server.addr).await;
    // With weight 0 it is the last to be asked, and the one to go to.
    let servers = format!(
        "server = [{{ address = \"{}\", weight = 65535 }}, {{ address = \"{}\", weight = 0 }}]",
        proxy.addr, other.addr
    );
    let agent = agent(&world, &servers).await;
    assert_eq!(other.taken(), 0);
    proxy.is(Link::Silent);
    let passed = moves(&world, &agent).await;
    assert!(other.taken() > 0 && passed < Duration::from_secs(1), "after the silence was noticed: {passed:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_and_cannot_serve_is_left_too() {
    let world = World::without_agent();
    let other = FakeServer::another(&world.server);
    let agent = agent(&world, &list(&[&world.server, &other])).await;
    let before = [world.server.taken(), other.taken()];
    let was = usize::from(before[1] > 0);
    // It ends every watch with a word, and keeps its connections.
    let status = || tonic::Status::unavailable("this server cannot follow the journal");
    world.server.state.script().watchers.drain(..).for_each(|w| _ = w.send(Err(status())));
    moves(&world, &agent).await;
    assert_eq!(with(&[&world.server, &other], &before), 1 - was, "the other one");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_found_by_their_srv_records_and_the_last_answer_stands_when_dns_is_gone() {
    let mut world = World::without_agent();
    let mut spare = world.server.another();
    let record = |host: &str, server: &FakeServer, priority: u16| {
        let srv = format!("srv-host={SERVICE},{host}.example.test,{},{priority},10", server.addr.port());
        [srv, format!("host-record={host}.example.test,127.0.0.1")]
    };
    let records = [record("main", &world.server, 10), record("spare", &spare, 20)].concat();
    let mut dns = DnsFixture::start(&records).await;
    let servers = format!("server = [{{ srv = \"{SERVICE}\" }}]\ndns = [\"{}\"]", dns.addr());
    let agent = agent(&world, &servers).await;
    assert_eq!(spare.taken(), 0, "the lower priority first");

    world.server.go_away();
    moves(&world, &agent).await;
    assert!(spare.taken() > 0, "and the higher when it is gone");

    dns.stop();
    let before = world.server.taken();
    world.server.come_back();
    spare.go_away();
    moves(&world, &agent).await;
    assert!(world.server.taken() > before, "found without DNS");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_says_that_dns_names_no_server_and_goes_on_when_it_does() {
    let world = World::without_agent();
    let mut dns = DnsFixture::start(&["host-record=main.example.test,127.0.0.1".into()]).await;
    let one = format!("server = [\"{}\"]", world.server.addr);
    let servers = format!("server = [{{ srv = \"{SERVICE}\" }}]\ndns = [\"{}\"]", dns.addr());
    let agent = world.launch(AgentConfig::parse(&world.config_text().replace(&one, &servers)).unwrap()).await;
    let said = format!("DNS has no servers for {SERVICE}");
    let says = || async { world.info().get_info(GetInfoRequest {}).await.is_err_and(|e| e.message().contains(&said)) };
    until("it says so", SOON, says).await;
    dns.stop();
    let srv = format!("srv-host={SERVICE},main.example.test,{},0,0", world.server.addr.port());
    dns.resume(&[srv, "host-record=main.example.test,127.0.0.1".into()]).await;
    let mut status = agent.status();
    let ready = async {
        while *status.borrow_and_update() != AgentStatus::Ready {
            world.clock.advance(Duration::from_secs(1));
            let _ = tokio::time::timeout(Duration::from_millis(50), status.changed()).await;
        }
    };
    tokio::time::timeout(SOON, ready).await.expect("the server is found");
    agent.stop().await;
}
