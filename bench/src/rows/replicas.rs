//! Several servers on one PostgreSQL: what a second one adds, how soon it knows, and what the database is asked.
//!
//! To share two cores with their client and the database, each server is held to 40 % of one by its cgroup.

use super::{entry, svid};
use crate::{
    client::{node::Node, rpc::Call},
    house::{self, House, Share},
    load::{self, Caller},
    report::{Report, Row, Target, Unit},
    stopwatch::{Span, now, until},
};
use anyhow::{Result, ensure};
use proto_wire::spire::api::server::entry::v1::{GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse};
use std::{net::Ipv4Addr, path::Path, time::Duration};
use testkit::postgres::PostgresFixture;

/// Of one core, percent.
const SHARE: u32 = 40;
/// Entries that each reader is entitled to.
const ENTRIES: usize = 20;
const READERS: usize = 32;
/// Agents that watch and do nothing else.
const IDLE_AGENTS: usize = 1000;

/// How long everything takes.
pub struct Lengths {
    pub span: Span,
    pub entries: usize,
    pub idle: Duration,
}

pub async fn run(dir: &Path, lengths: &Lengths, report: &mut Report) -> Result<()> {
    let settings =
        ["fsync=on", "full_page_writes=on", "log_statement=none", "shared_preload_libraries=pg_stat_statements"];
    let postgres = PostgresFixture::start_with(&settings).await;
    let store = format!(
        "[store]\nurl = \"{}\"\npassword_file = \"{}\"\n",
        postgres.store_url("house").await,
        postgres.manager_password_file().display()
    );
    postgres.sql("CREATE EXTENSION pg_stat_statements").await;
    std::fs::create_dir_all(dir.join("one"))?;
    let one = House::start(&dir.join("one"), &store).await?;
    let node = Node::attest(&one).await?;
    let entries = (0..ENTRIES).map(|i| house::entry(&format!("/bench/read/{i}"), node.id.clone(), format!("uid:{i}")));
    let ids = one.create_entries(entries.collect()).await?;
    // Before there is another, which reads each record once to follow it.
    statements(&postgres, &node, &ids[0], lengths.span, report).await?;

    let mut other = one.beside(&dir.join("other"), &store).await?;
    other.start_agent().await?;
    one.create_entry(house::PERSON, None).await?;
    let took = entry::to_svid_from(&one, &other, lengths.entries).await?;
    let row =
        Row::new("entry created at one server → SVID in hand at another's agent, p99", Unit::Millis, took.millis(0.99));
    report.add(row.target(Target::AtMost(100.0)));
    report.add(Row::new("  the same, p50", Unit::Millis, took.millis(0.5)));

    match Share::of_a_core(SHARE) {
        Ok(mut share) => {
            share.hold(&[&one, &other])?;
            shared(&one, &other, &node, &ids[0], lengths.span, report).await?;
            drop(share);
        }
        Err(why) => report.note(format!("two servers against one: no cgroup can be made here ({why:#})")),
    }
    idle(&postgres, &one, &other, lengths.idle, report).await?;
    drop(node);
    other.stop().await?;
    one.stop().await
}

/// What the database is asked for each SVID: the head is locked once for a group, and nothing is read.
async fn statements(
    postgres: &PostgresFixture,
    node: &Node,
    entry: &str,
    span: Span,
    report: &mut Report,
) -> Result<()> {
    postgres.sql("SELECT pg_stat_statements_reset()").await;
    let load = svid::x509(node, entry, span).await?;
    let counted =
        "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                   WHERE d.datname = 'house'";
    let selects = "query ILIKE 'SELECT%' AND query NOT ILIKE '%FOR UPDATE'";
    let reads: i64 = postgres.ask(&format!("{counted} AND {selects}")).await;
    let groups: i64 = postgres.ask(&format!("{counted} AND query ILIKE 'WITH head AS (UPDATE journal_head%'")).await;
    let issued = load.total as f64;
    let row = Row::new(
        "SVIDs on PostgreSQL: SELECTs for each, the server's chores included",
        Unit::Count,
        reads as f64 / issued,
    );
    report.add(row.target(Target::AtMost(0.02)));
    report.add(Row::new("  SVIDs on PostgreSQL: commits for each", Unit::Count, groups as f64 / issued));
    report.add(Row::new("  SVIDs on PostgreSQL, durable, one server", Unit::PerSecond, load.per_second));
    Ok(())
}

/// An agent of before our own, which asks for its entries over and over.
struct Reader(Call);

impl Caller for Reader {
    async fn call(&mut self) -> Result<()> {
        let answer: GetAuthorizedEntriesResponse = self.0.send().await?;
        ensure!(answer.entries.len() == ENTRIES, "{} entries", answer.entries.len());
        Ok(())
    }
}

/// One server under load, and then two under the same.
async fn shared(one: &House, other: &House, node: &Node, entry: &str, span: Span, report: &mut Report) -> Result<()> {
    let elsewhere = node.at(other).await?;
    let readers = |nodes: &[&Node]| -> Result<Vec<Reader>> {
        let call = |n: usize| {
            let path = "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
            Ok(Reader(nodes[n % nodes.len()].rpc.call(path, &GetAuthorizedEntriesRequest::default())?))
        };
        (0..READERS).map(call).collect()
    };
    let alone = load::closed(readers(&[node])?, span).await?.0.per_second;
    let both = load::closed(readers(&[node, &elsewhere])?, span).await?.0.per_second;
    let row = Row::new(format!("reads, two servers at {SHARE} % of a core each"), Unit::PerSecond, both);
    report.add(row.of("one server", alone).target(Target::Share(1.8)));
    let alone = svid::jwt_at(&[node], entry, span).await?.per_second;
    let both = svid::jwt_at(&[node, &elsewhere], entry, span).await?.per_second;
    let row = Row::new(format!("JWT-SVIDs, durable, two servers at {SHARE} % of a core each"), Unit::PerSecond, both);
    report.add(row.of("one server", alone).target(Target::Share(0.9)));
    ensure!(one.grpc != other.grpc, "two servers");
    Ok(())
}

/// What agents that have nothing to do cost the database.
async fn idle(
    postgres: &PostgresFixture,
    one: &House,
    other: &House,
    time: Duration,
    report: &mut Report,
) -> Result<()> {
    let mut watches = Vec::with_capacity(IDLE_AGENTS);
    for host in 0..IDLE_AGENTS {
        let from = Ipv4Addr::new(127, 0, 1 + u8::try_from(host / 250)?, 1 + u8::try_from(host % 250)?);
        let house = if host % 2 == 0 { one } else { other };
        let mut node = Node::attest_from(from, house, None).await?;
        let mut stream = node.watch().await?;
        stream.message().await?;
        watches.push((node, stream));
    }
    postgres.sql("SELECT pg_stat_statements_reset()").await;
    let begin = now();
    until(begin + time).await;
    let took = (now() - begin).as_secs_f64();
    let counted =
        "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                   WHERE d.datname = 'house'";
    let asked: i64 = postgres.ask(counted).await;
    let row = Row::new(
        format!("{IDLE_AGENTS} idle agents at two servers: statements to the database"),
        Unit::PerSecond,
        asked as f64 / took,
    );
    report.add(row.target(Target::AtMost(10.0)));
    drop(watches);
    Ok(())
}
