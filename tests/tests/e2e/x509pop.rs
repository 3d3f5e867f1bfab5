//! A node that attests by the certificate its factory gave it: attested again after an eviction, refused after a ban.
//! Invariants 8 and 10.

use agent_daemon::{Agent, AgentConfig, AgentStatus, Ports, Running};
use proto_types::{OsEntropy, SystemClock};
use server_daemon::{Machine, ServerConfig};
use std::{path::Path, sync::Arc};
use testkit::poll;
use tests::world::{Command, Factory, Layout, SOON};

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

#[tokio::test]
async fn a_node_attests_by_its_certificate_again_after_an_eviction_and_not_after_a_ban() {
    let layout = Layout::new();
    let factory = Factory::new(&layout);
    let text = layout.server_toml() + &Factory::server_section(&layout);
    let config = ServerConfig::parse(&text).unwrap_or_else(|p| panic!("{p:?}"));
    let machine = Machine { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) };
    let server = server_daemon::Server::start(config, machine).await.unwrap();
    layout.write("ca.pem", &server.ca_pem());

    let config = AgentConfig::parse(&factory.agent_toml(&layout, "node-7")).unwrap_or_else(|p| panic!("{p:?}"));
    let agent = Agent::start(config, Ports::system()).await.unwrap();
    agent.ready().await.unwrap();
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
