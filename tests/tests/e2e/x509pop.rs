//! A node that attests by the certificate its factory gave it: attested again after an eviction and after a long sleep,
//! refused after a ban. Invariants 8 and 10; fault F13.

use agent_daemon::{Agent, AgentConfig, AgentStatus, Ports, Running};
use cli::agent_client::AgentClient;
use proto_types::{Clock, OsEntropy, SystemClock};
use server_daemon::{Machine, ServerConfig};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use testkit::{fakes::FakeClock, poll};
use tests::world::{Command, Factory, Layout, SOON, first_svids};

async fn operator(layout: &Layout, args: &[&str]) -> serde_json::Value {
    let errand = Command::new(layout, Path::new("/nonexistent"));
    let done = errand.args(args.iter().copied().chain(["--output", "json"])).to_end().await.exited(0);
    serde_json::from_str(&done.stdout).unwrap_or_default()
}

async fn nodes(layout: &Layout) -> Vec<serde_json::Value> {
    operator(layout, &["node", "list"]).await["nodes"].as_array().cloned().unwrap_or_default()
}

fn is_lost(agent: &Running) -> bool {
    !matches!(&*agent.status().borrow(), AgentStatus::Ready)
}

/// A server that believes the factory, and an agent on one of its nodes, by one clock.
async fn start(layout: &Layout, clock: Arc<dyn Clock>) -> (server_daemon::Running, Running) {
    let factory = Factory::new(layout);
    let text = layout.server_toml() + &Factory::server_section(layout);
    let config = ServerConfig::parse(&text).unwrap_or_else(|p| panic!("{p:?}"));
    let machine = Machine { clock: clock.clone(), entropy: Arc::new(OsEntropy) };
    let server = server_daemon::Server::start(config, machine).await.unwrap();
    layout.write("ca.pem", &server.ca_pem());
    let text = factory.agent_toml(layout, "node-7");
    layout.write("node-7.toml", &text);
    let config = AgentConfig::parse(&text).unwrap_or_else(|p| panic!("{p:?}"));
    let agent = Agent::start(config, Ports { clock, ..Ports::system() }).await.unwrap();
    agent.ready().await.unwrap();
    (server, agent)
}

#[tokio::test]
async fn a_node_attests_by_its_certificate_again_after_an_eviction_and_not_after_a_ban() {
    let layout = Layout::new();
    let (server, agent) = start(&layout, Arc::new(SystemClock)).await;
    let first = nodes(&layout).await;
    assert_eq!(first.len(), 1, "{first:?}");
    let id = first[0]["id"].as_str().unwrap().to_string();
    assert!(id.contains("/spire/agent/x509pop/"), "{id}");
    let shown = operator(&layout, &["node", "show", &id]).await;
    assert!(shown.to_string().contains("subject:cn:node-7"), "{shown}");

    operator(&layout, &["node", "evict", &id]).await;
    let serial = |node: &serde_json::Value| node["x509svid_serial_number"].as_str().unwrap().to_string();
    let attested_again = async || nodes(&layout).await.first().is_some_and(|n| serial(n) != serial(&first[0]));
    poll::until("the node attests again by itself", SOON, attested_again).await;
    poll::until("the agent is itself again", SOON, async || !is_lost(&agent)).await;
    assert_eq!(nodes(&layout).await[0]["id"], id.as_str(), "under the same name");

    operator(&layout, &["node", "ban", &id]).await;
    poll::until("the agent notices", SOON, async || is_lost(&agent)).await;
    let banned = nodes(&layout).await;
    assert_eq!((banned.len(), &banned[0]["banned"]), (1, &serde_json::Value::Bool(true)), "{banned:?}");
    agent.stop().await;
    server.stop().await;
}

/// The whole of a machine sleeps: its clock is four hours later, and no timer has run.
#[tokio::test]
async fn a_machine_that_slept_until_every_certificate_was_over_is_itself_again_within_a_minute() {
    let layout = Layout::new();
    let clock = FakeClock::at(SystemClock.now());
    let (server, agent) = start(&layout, Arc::new(clock.clone())).await;
    let uid = format!("unix:uid:{}", nix::unistd::geteuid());
    operator(&layout, &["entry", "create", "--spiffe-id", "spiffe://acme.test/sleeper", "--selector", &uid]).await;
    let socket: PathBuf = layout.dir().join("node-7/agent.sock");
    let workload = AgentClient::connect(&socket).await.unwrap();
    let served = async || first_svids(&workload).await.is_ok_and(|svids| !svids.is_empty());
    poll::until("the workload is served", SOON, served).await;
    let said = async || workload.info(&SystemClock).await.unwrap().problem;
    assert_eq!(said().await, "");
    let config = layout.dir().join("node-7.toml");
    let health =
        || Command::new(&layout, &socket).args(["agent", "healthcheck", "--config", config.to_str().unwrap()]).to_end();
    health().await.exited(0).said("ready");
    let before = nodes(&layout).await;

    clock.set(clock.now().plus(Duration::from_secs(4 * 3600)));
    health().await.exited(1).said("the agent's SVID expired at ");
    let awake = clock.now();
    let itself_again = async || {
        clock.advance(Duration::from_millis(250));
        *agent.status().borrow() == AgentStatus::Ready && said().await.is_empty()
    };
    assert!(poll::holds_within(SOON, itself_again).await, "{}", said().await);
    let passed = clock.now().since(awake);
    assert!(passed <= Duration::from_secs(60), "only after {passed:?}");
    poll::until("the workload is served anew", SOON, served).await;
    health().await.exited(0).said("ready");
    let after = nodes(&layout).await;
    assert_eq!((after.len(), &after[0]["id"]), (1, &before[0]["id"]), "the same node, and nobody was asked");
    agent.stop().await;
    server.stop().await;
}
