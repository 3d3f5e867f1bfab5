//! A store full of live leases: how long a server takes to be ready on it, what it holds in memory, and how fast it lists.

use super::ssh;
use crate::{
    client::node::Node,
    house::{House, LOAD},
    load::Latencies,
    machine,
    report::{Report, Row, Target, Unit},
    stopwatch::now,
};
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Request;
use hyper::body::Bytes;
use proto_types::{
    Clock, Entropy, EntryId, Epoch, Grant, LeaseId, OsEntropy, Revocability, RoleName, Selector, SpiffeId, SystemClock,
    Task, TaskId, TaskState, Timestamp, id::parse_spiffe_id,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use server_core::{
    lease::{self, NewLease},
    ports::{Commit, Ledger, Snapshots, Write},
    task,
};
use server_store::{OpenOptions, SqliteStore};
use std::{path::Path, sync::Arc, time::Duration};

const LEASES: u32 = 256_000;
const PER_TASK: u32 = 8;
/// Units that wait for the store at once: as many as it commits together.
const AT_ONCE: usize = 256;
/// How long tasks and leases live: longer than anything here takes.
const LIFE: Duration = Duration::from_secs(3600);
const PAGES: usize = 200;
const PAGE: usize = 100;

pub async fn run(dir: &Path, idle: Duration, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let house = House::start(dir, ssh::TARGET).await?;
    let node = Node::attest(&house).await?;
    let entry = house.create_entry(LOAD, Some(&node.id)).await?;
    let node = parse_spiffe_id(&format!("spiffe://{}{}", node.id.trust_domain, node.id.path))?;
    let owner = Owner { node, entry: EntryId::new(entry)?, now: SystemClock.now() };
    let (mut reading, mut text) = (0.0, 0.0);
    let restart = house.restart(async |store| {
        fill(store, &owner).await?;
        (reading, text) = read(store)?;
        Ok(())
    });
    let (house, took) = restart.await?;
    let name = format!("server: start to ready with {LEASES} leases of {} tasks", LEASES / PER_TASK);
    let row = Row::new(name, Unit::Seconds, took.as_secs_f64()).of("reading their rows", reading);
    report.add(row.target(Target::AtMost(15.0)));
    let memory = house.server_memory()?;
    let row = Row::new("server: resident with these, most", Unit::Mebibytes, memory.most).of("their rows", text);
    report.add(row.target(Target::AtMost(512.0)));
    report.add(Row::new("server: resident with these, when ready", Unit::Mebibytes, memory.now));
    let percent = machine::idle(idle, || house.server_cpu()).await?;
    report.add(Row::new("server: CPU with these, idle", Unit::Percent, percent));
    let took = list(&house).await?;
    let row = Row::new(format!("server: a page of {PAGE} leases, p99"), Unit::Millis, took.millis(0.99));
    report.add(row.target(Target::AtMost(50.0)));
    house.stop().await
}

/// Whom the tasks are for.
struct Owner {
    node: SpiffeId,
    entry: EntryId,
    now: Timestamp,
}

/// Puts tasks and their leases into a store that nobody else has open, by the store's own commits.
async fn fill(path: &Path, owner: &Owner) -> Result<()> {
    let options = OpenOptions::new(crate::house::TRUST_DOMAIN, false, Arc::new(OsEntropy), Arc::new(SystemClock));
    let store = SqliteStore::open(path, options)?;
    let id = store.meta().store_id;
    let units = stream::iter(0..LEASES / PER_TASK).map(|_| async {
        store.commit(unit(owner, &id)?).await?;
        Ok::<_, anyhow::Error>(())
    });
    units.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    store.write_root(None).await?;
    Ok(())
}

/// A task and what it was given, as a server would have written them.
fn unit(owner: &Owner, store_id: &str) -> Result<Commit> {
    let (now, role) = (owner.now, "bastion/ops".parse::<RoleName>()?);
    let id = TaskId::new(OsEntropy.uuid_v7(now));
    let task = Task {
        id,
        parent: None,
        root: id,
        depth: 0,
        workload: parse_spiffe_id(&format!("spiffe://{}{LOAD}", crate::house::TRUST_DOMAIN))?,
        entry: owner.entry.clone(),
        node: owner.node.clone(),
        user: None,
        intent: "measure".into(),
        state: TaskState::Active,
        epoch: Epoch(0),
        grants: vec![Grant { role: role.clone(), max_ttl: LIFE, policies: vec!["bench-bench-load".into()] }],
        handle: true,
        uid: 0,
        selectors: vec![Selector::parse("unix:uid:0")?],
        started_at: now,
        ends_at: now.plus(LIFE),
        ended_at: None,
        end_reason: None,
    };
    let mut unit = Commit::of(task::record("started", &task, now, None)).put(Write::Task(task.clone()));
    unit = unit.put(Write::TaskSerial { task: id, serial: hex(), not_after: now.plus(LIFE) });
    for _ in 0..PER_TASK {
        let new = NewLease {
            id: LeaseId::new(OsEntropy.uuid_v7(now)),
            task: &task,
            role: role.clone(),
            kind: "ssh",
            store_id,
            revocability: Revocability::TtlOnly,
            expires_at: now.plus(LIFE),
            attempt: None,
            now,
        };
        unit = lease::mint(new, handle()).on_behalf_of(&task, None).onto(unit);
    }
    Ok(unit)
}

/// As long as what the kind `ssh` keeps.
fn handle() -> Value {
    let fingerprint = || format!("SHA256:{}", &(hex() + &hex())[..43]);
    let serial = u64::from_str_radix(&hex()[..16], 16).unwrap_or_default().to_string();
    json!({ "serial": serial, "ca": fingerprint(), "key": fingerprint(), "target": "bastion" })
}

/// 16 random bytes.
fn hex() -> String {
    let mut bytes = [0; 16];
    OsEntropy.fill(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// How long one thread takes to read all rows of live tasks and leases, seconds, and how much text they are, MiB.
fn read(path: &Path) -> Result<(f64, f64)> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (begin, mut bytes, mut leases) = (now(), 0, 0);
    for table in ["task", "lease"] {
        let mut statement = conn.prepare(&format!("SELECT id, body FROM {table} ORDER BY id"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            bytes += row.get::<_, String>(0)?.len() + row.get::<_, String>(1)?.len();
            leases += u32::from(table == "lease");
        }
    }
    ensure!(leases == LEASES, "{leases} leases are in the store");
    Ok((begin.elapsed().as_secs_f64(), bytes as f64 / 1024.0 / 1024.0))
}

/// Pages from the newest on, as an operator turns them.
async fn list(house: &House) -> Result<Latencies> {
    let mut http = house.operator().await?;
    let (mut took, mut before) = (Vec::with_capacity(PAGES), String::new());
    for _ in 0..PAGES {
        let request = Request::get(format!("/v1/leases?limit={PAGE}{before}"));
        let sent = now();
        let answer = http.send(request, Bytes::new()).await?;
        took.push(now() - sent);
        let answer: Value = serde_json::from_slice(&answer)?;
        ensure!(answer["leases"].as_array().is_some_and(|l| l.len() == PAGE), "a page has {PAGE} leases");
        before = format!("&before={}", answer["next"].as_str().context("there are more")?);
    }
    Ok(Latencies::new(took))
}
