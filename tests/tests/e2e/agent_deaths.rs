//! An agent that dies at each step of writing down what it is: it is the same node again, and never reads half a file.
//! Faults F3 and F10. `ERRAND_ROUNDS` says how often each step is tried.

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use std::path::{Path, PathBuf};
use testkit::disk::{
    Call::{Open, Rename, Renamed, Sync, Write},
    DiskFault, Outcome,
};
use tests::world::{Command, Daemon, Factory, Layout};

/// The agent's life lasts long enough for a restart, and its half comes soon.
const AGENT_TTL: &str = "14s";
const SVID: &str = "agent_svid.json";
/// Which writing of the file: the attestation, the renewal, and that the server took the renewed one.
const SVID_WRITES: [(&str, u32); 3] = [("attested", 1), ("renewed", 2), ("confirmed", 3)];

/// One step: the file, which writing of it, and the call that is the last.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    fault: DiskFault,
    /// Whether the SVID of the attestation was on disk by then.
    kept: bool,
}

fn steps(round: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    let files = SVID_WRITES.iter().map(|(what, nth)| (SVID, *what, *nth)).chain([("bundle.json", "bundle", 1)]);
    for (file, what, nth) in files {
        for call in [Open, Write, Sync, Rename, Renamed] {
            let path = if matches!(call, Rename | Renamed) { format!("/{file}") } else { format!("/{file}.new") };
            let kept = file != SVID || nth > 1 || call == Renamed;
            let name = format!("{what}-{call:?}-{round}").to_lowercase();
            steps.push(Step { name, fault: DiskFault::new(call, &path, nth, Outcome::Kill), kept });
        }
    }
    steps
}

struct Nodes {
    layout: Layout,
    factory: Factory,
}

impl Nodes {
    fn data(&self, name: &str, file: &str) -> PathBuf {
        self.layout.dir().join(name).join("data").join(file)
    }

    async fn operator(&self, args: &[&str]) -> Value {
        let errand = Command::new(&self.layout, Path::new("/nonexistent"));
        errand.args(args.iter().copied().chain(["--all", "--output", "json"])).to_end().await.exited(0).json()
    }

    /// How often the node attested.
    async fn attestations(&self, id: &str) -> usize {
        let found = self.operator(&["journal", "search", "--kind", "node.attested"]).await;
        found["records"].as_array().unwrap().iter().filter(|r| r["node"] == id).count()
    }

    async fn dies_at(&self, step: &Step) {
        let name = &step.name;
        let config = self.layout.write(&format!("{name}.toml"), &self.factory.agent_toml(&self.layout, name));
        let log = self.layout.dir().join(format!("{name}.log"));
        let args = ["agent", "run", "--config", &config];
        let mut agent = Daemon::start_on(Some(step.fault.clone()), &args, &self.layout.dir().join("home"), log);
        assert_eq!(agent.ends().await, None, "{name}: it ended by itself\n{}", agent.log());
        let before = self.read(name);
        assert_eq!(before.is_some(), step.kept, "{name}");

        agent.start_again();
        agent.ready().await;
        let after = self.read(name).expect("an agent that is ready is written down");
        let id = after["id"].as_str().unwrap();
        if let Some(before) = before {
            assert_eq!(before["id"], id, "{name}");
            assert_eq!(self.attestations(id).await, 1, "{name}: what it had was good\n{}", agent.log());
        }
        agent.stop().await;
        for left in std::fs::read_dir(self.data(name, "")).unwrap().flatten() {
            let file = left.file_name().into_string().unwrap();
            assert!(!file.ends_with(".new"), "{name}: {file} is left over");
        }
    }

    /// What the agent is by its own file: all of it, or no file.
    fn read(&self, name: &str) -> Option<Value> {
        let bytes = std::fs::read(self.data(name, SVID)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{name}: half a file: {e}")))
    }
}

#[tokio::test]
async fn wherever_an_agent_dies_it_is_the_same_node_again_and_reads_no_half_file() {
    let layout = Layout::new();
    let factory = Factory::new(&layout);
    let text = layout.server_toml().replacen("data_dir", &format!("agent_ttl = \"{AGENT_TTL}\"\ndata_dir"), 1);
    let config = layout.write("server.toml", &(text + &Factory::server_section(&layout)));
    let (home, log) = (layout.dir().join("home"), layout.dir().join("server.log"));
    let mut server = Daemon::start(&["server", "run", "--config", &config], &home, log);
    server.ready().await;
    let shown = Command::new(&layout, Path::new("/nonexistent")).args(["bundle", "show"]).to_end().await.exited(0);
    layout.write("ca.pem", &shown.stdout);

    let rounds = std::env::var("ERRAND_ROUNDS").map_or(1, |n| n.parse().expect("ERRAND_ROUNDS is a number"));
    let steps: Vec<Step> = (1..=rounds).flat_map(steps).collect();
    let nodes = Nodes { layout, factory };
    stream::iter(&steps).for_each_concurrent(5, |step| nodes.dies_at(step)).await;
    let there = nodes.operator(&["node", "list"]).await;
    assert_eq!(there["nodes"].as_array().unwrap().len(), steps.len(), "nobody was evicted, nobody is there twice");
    server.stop().await;
}
