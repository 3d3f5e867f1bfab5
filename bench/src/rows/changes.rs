//! What a change of an entry costs a server with many entries and many agents: its own CPU, nobody else's.

use crate::{
    client::node::Node,
    house::{self, House, NODE},
    load::Latencies,
    report::{Report, Row, Target, Unit},
    stopwatch::now,
};
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use proto_wire::{errand::v1::WatchResponse, spire::api::types::Spiffeid};
use std::{net::Ipv4Addr, path::Path, time::Duration};
use tokio::sync::mpsc;

const ENTRIES: usize = 10_000;
const AGENTS: usize = 100;
/// Of the entries, those that all agents have.
const SHARED: usize = 100;
/// In one call, and calls at once.
const BATCH: usize = 500;
const CALLS: usize = 10;
/// How long a push may take.
const PUSHED: Duration = Duration::from_secs(10);

pub async fn run(dir: &Path, changes: usize, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let house = House::start(dir, "").await?;
    let mut nodes = Vec::with_capacity(AGENTS);
    for host in 0..AGENTS {
        // As agents are: each at an address of its own.
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(host + 1)?);
        nodes.push(Node::attest_from(from, &house, Some(house::id(NODE))).await?);
    }
    let own = ENTRIES - SHARED;
    let parents = (0..own).map(|i| nodes[i % AGENTS].id.clone());
    let own = register(&house, parents, "own").await?;
    let shared = register(&house, (0..SHARED).map(|_| house::id(NODE)), "shared").await?;

    let alone = Change { house: &house, entries: &own, pushes: 0 }.measure(changes, &mut None).await?;
    let mut pushed = Some(watch_all(nodes).await?);
    let one = Change { house: &house, entries: &own, pushes: 1 }.measure(changes, &mut pushed).await?;
    let all = Change { house: &house, entries: &shared, pushes: AGENTS }.measure(changes / 10, &mut pushed).await?;

    let row = Row::new(
        format!("entry change, {ENTRIES} entries, {AGENTS} agents, one concerned: server's CPU"),
        Unit::Micros,
        one.micros,
    );
    report.add(row.of("no agent", alone.micros).target(Target::AtMost(1000.0)));
    report.add(Row::new("  the same, changed → pushed, p99", Unit::Millis, one.latencies.millis(0.99)));
    report.add(Row::new("entry change, all agents concerned: server's CPU", Unit::Micros, all.micros));
    let push = (all.micros - one.micros) / (AGENTS - 1) as f64;
    report.add(Row::new("  of it, each push", Unit::Micros, push));
    report.add(Row::new("  the same, changed → pushed to all, p99", Unit::Millis, all.latencies.millis(0.99)));
    report.add(Row::new("server: resident, with these", Unit::Mebibytes, house.server_memory()?.now));
    house.stop().await
}

/// Registers one entry below each parent; their ids.
async fn register(house: &House, parents: impl Iterator<Item = Spiffeid>, what: &str) -> Result<Vec<String>> {
    let entry = |(i, parent)| house::entry(&format!("/bench/{what}/{i}"), parent, format!("uid:{i}"));
    let entries: Vec<_> = parents.enumerate().map(entry).collect();
    let calls = stream::iter(entries.chunks(BATCH)).map(|batch| house.create_entries(batch.to_vec()));
    let ids: Vec<Vec<String>> = calls.buffered(CALLS).try_collect().await?;
    Ok(ids.concat())
}

/// Entries pushed to any agent, each time one is.
type Pushed = mpsc::UnboundedReceiver<Vec<String>>;

/// Opens every agent's stream; each has had its whole view when this returns.
async fn watch_all(nodes: Vec<Node>) -> Result<Pushed> {
    let (tell, pushed) = mpsc::unbounded_channel();
    for mut node in nodes {
        let mut stream = node.watch().await?;
        let first = stream.message().await?.context("an agent's stream begins")?;
        let wanted = ENTRIES / AGENTS - SHARED / AGENTS + SHARED;
        ensure!(first.entries.len() == wanted, "an agent sees {} entries", first.entries.len());
        let tell = tell.clone();
        tokio::spawn(async move {
            // Lives as long as the stream.
            let _node = node;
            while let Ok(Some(WatchResponse { entries, .. })) = stream.message().await {
                let ids: Vec<String> = entries.into_iter().map(|e| e.id).collect();
                if !ids.is_empty() && tell.send(ids).is_err() {
                    return;
                }
            }
        });
    }
    Ok(pushed)
}

/// Changes of these entries, one after another, each of which so many agents hear.
struct Change<'a> {
    house: &'a House,
    entries: &'a [String],
    pushes: usize,
}

/// What one change came to.
struct Cost {
    /// CPU of the server.
    micros: f64,
    latencies: Latencies,
}

impl Change<'_> {
    async fn measure(&self, changes: usize, pushed: &mut Option<Pushed>) -> Result<Cost> {
        let mut took = Vec::with_capacity(changes);
        let before = self.house.server_cpu()?;
        for i in 0..changes {
            // Far apart: no agent hears twice in a row.
            let id = &self.entries[i * 101 % self.entries.len()];
            let sent = now();
            self.house.change_entry(id, format!("{}-{i}", self.pushes)).await?;
            if let Some(pushed) = pushed {
                tokio::time::timeout(PUSHED, hear(pushed, id, self.pushes)).await.context("a push did not come")??;
            }
            took.push(now() - sent);
        }
        let used = self.house.server_cpu()? - before;
        Ok(Cost { micros: used * 1e6 / changes as f64, latencies: Latencies::new(took) })
    }
}

async fn hear(pushed: &mut Pushed, id: &str, times: usize) -> Result<()> {
    for _ in 0..times {
        let ids = pushed.recv().await.context("the agents' streams ended")?;
        ensure!(ids == [id], "pushed was {ids:?}, changed {id}");
    }
    Ok(())
}
