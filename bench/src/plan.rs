//! Which rows are measured, in which order, on which house.

use crate::client::node::Node;
use crate::{
    disk,
    house::{self, House},
    limits::{self, Crypto},
    load, machine,
    report::{Report, Row, Target, Unit},
    rows::{changes, disturbed, entry, errands, exchange, leases, ledger, rated, replicas, ssh, streams, svid, verify},
    stopwatch::Span,
};
use anyhow::Result;
use clap::ValueEnum;
use std::{path::Path, time::Duration};
use testkit::postgres::PostgresFixture;
use tokio::runtime::Builder;

/// A database that keeps what it says it did, as a real one does; for `errand` and for `psql` alike.
const DURABLE: &[&str] = &["fsync=on", "full_page_writes=on"];

/// The same, of which nobody reads the log.
const QUIET: &[&str] = &["fsync=on", "full_page_writes=on", "log_statement=none"];

/// A group of rows, to be named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// The disk and the store alone
    Ledger,
    /// Verifying a journal
    Verify,
    /// From an entry to its SVID; memory idle
    Entry,
    /// Issuing X.509-SVIDs and JWT-SVIDs
    Svid,
    /// Exchange for a task token
    Exchange,
    /// Whole errands with a PostgreSQL user
    Errands,
    /// Exchange for an SSH certificate, OpenBao beside it
    Ssh,
    /// 256,000 leases in the store
    Leases,
    /// 1,000 workload streams on one agent
    Streams,
    /// Two servers on one PostgreSQL
    Replicas,
    /// Changes among 10,000 entries with 100 agents
    Changes,
}

pub struct Plan {
    rows: Vec<Group>,
    lengths: Lengths,
}

impl Plan {
    /// `rows`: what was named; nothing is everything.
    pub fn new(rows: Vec<Group>, quick: bool) -> Self {
        Self { rows, lengths: Lengths::new(quick) }
    }

    fn wants(&self, any: &[Group]) -> bool {
        self.rows.is_empty() || any.iter().any(|g| self.rows.contains(g))
    }

    pub fn measure(&self, dir: &Path, report: &mut Report) -> Result<()> {
        report.note(machine::describe());
        let crypto = raw(dir, report)?;
        // As many threads as a server has.
        let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        threads.block_on(self.alone(dir, report))?;
        drop(threads);
        // The client is one thread: it shares the cores with what it measures, and what it burns is missing there.
        let client = Builder::new_current_thread().enable_all().build()?;
        client.block_on(self.together(dir, &crypto, report))?;
        client.block_on(self.crowded(dir, report))
    }

    /// The ledger without the rest.
    async fn alone(&self, dir: &Path, report: &mut Report) -> Result<()> {
        if self.wants(&[Group::Ledger]) {
            let syncs = disk::syncs_per_second(dir, Duration::from_secs(1))?;
            let rows = disk::rows_per_second(dir, 256, Duration::from_millis(1500))?;
            report.add(Row::new("disk: append 4 KiB and sync", Unit::PerSecond, syncs));
            report.add(Row::new("disk: SQLite rows in synced groups of 256", Unit::PerSecond, rows));
            for callers in [1, 64, 256] {
                let load = ledger::commits(dir, callers, self.lengths.closed).await?;
                let row = Row::new(format!("ledger: commits, {callers} callers"), Unit::PerSecond, load.per_second);
                report.add(if callers == 1 { row.of("syncs", syncs) } else { row.of("SQLite rows", rows) });
            }
        }
        if self.wants(&[Group::Ledger]) && postgres_is_installed() {
            let postgres = PostgresFixture::start_with(QUIET).await;
            // So many callers that each server's groups are about so large.
            for (servers, callers, group) in [(1, 16, 16), (2, 32, 16), (1, 256, 128), (2, 256, 128)] {
                let plain = ledger::plain(&postgres, servers, group, self.lengths.closed).await?;
                let (load, records) = ledger::shared(&postgres, servers, callers, self.lengths.closed).await?;
                let name =
                    format!("ledger on PostgreSQL: {servers} servers, {callers} callers, groups of {records:.0}");
                let row = Row::new(name, Unit::PerSecond, load.per_second);
                let row = row.of(format!("plain SQL in groups of {group}"), plain);
                report.add(if servers == 2 { row.target(Target::AtLeast(20_000.0)) } else { row });
            }
        }
        if self.wants(&[Group::Verify]) {
            let row = Row::new("journal: records verified", Unit::PerSecond, verify::per_second()?);
            report.add(row.target(Target::AtLeast(200_000.0)));
        }
        Ok(())
    }

    /// Server, agent and database, with a client.
    async fn together(&self, dir: &Path, crypto: &Crypto, report: &mut Report) -> Result<()> {
        use Group::{Entry, Errands, Exchange, Ssh, Svid};
        if !self.wants(&[Entry, Svid, Exchange, Errands, Ssh]) {
            return Ok(());
        }
        let wanted = self.wants(&[Errands]);
        let postgres =
            if wanted && postgres_is_installed() { Some(PostgresFixture::start_with(DURABLE).await) } else { None };
        let targets = postgres.as_ref().map(|p| p.target_toml(errands::TARGET)).unwrap_or_default();
        let mut house = House::start(dir, &format!("{targets}{}", ssh::TARGET)).await?;
        house.start_agent().await?;
        house.create_entry(house::PERSON, None).await?;
        if self.wants(&[Entry]) {
            self.entries(&house, report).await?;
        }
        if self.wants(&[Svid, Exchange]) {
            self.issuing(&house, crypto, report).await?;
        }
        match &postgres {
            Some(postgres) => whole_errands(&house, postgres, self.lengths, report).await?,
            None if wanted => {
                report.note("whole errands: PostgreSQL is not installed (apt-get install postgresql)");
            }
            None => {}
        }
        if self.wants(&[Svid, Exchange, Errands]) {
            memory_after(&house, report)?;
        }
        // Last: its leases live on for five minutes, and so does what they take of the server's memory.
        if self.wants(&[Ssh]) {
            ssh::run(&house, dir, crypto, self.lengths.closed, report).await?;
        }
        house.stop().await
    }

    /// Much of one thing, each on a house of its own.
    async fn crowded(&self, dir: &Path, report: &mut Report) -> Result<()> {
        if self.wants(&[Group::Replicas]) {
            if postgres_is_installed() {
                let Lengths { closed: span, entries, idle, .. } = self.lengths;
                let dir = dir.join("replicas");
                replicas::run(&dir, &replicas::Lengths { span, entries, idle }, report).await?;
            } else {
                report.note("several servers: PostgreSQL is not installed (apt-get install postgresql)");
            }
        }
        if self.wants(&[Group::Streams]) {
            streams::run(&dir.join("streams"), self.lengths.idle, report).await?;
        }
        if self.wants(&[Group::Changes]) {
            changes::run(&dir.join("changes"), self.lengths.changes, report).await?;
        }
        if self.wants(&[Group::Leases]) {
            leases::run(&dir.join("leases"), self.lengths.idle, report).await?;
        }
        Ok(())
    }

    async fn entries(&self, house: &House, report: &mut Report) -> Result<()> {
        let watch = house.watch()?;
        let took = entry::to_svid(house, self.lengths.entries).await?;
        disturbed(report, "entry created → SVID", watch.end()?);
        report.add(Row::new("entry created → SVID in hand, p50", Unit::Millis, took.millis(0.5)));
        let row = Row::new("entry created → SVID in hand, p99", Unit::Millis, took.millis(0.99));
        report.add(row.target(Target::AtMost(30.0)));
        let agent = house.agent_memory()?;
        report.add(Row::new("agent: resident, idle", Unit::Mebibytes, agent.now).target(Target::AtMost(20.0)));
        report.add(Row::new("server: resident, idle", Unit::Mebibytes, house.server_memory()?.now));
        Ok(())
    }

    async fn issuing(&self, house: &House, crypto: &Crypto, report: &mut Report) -> Result<()> {
        let mut node = Node::attest(house).await?;
        let entry_id = house.create_entry(house::LOAD, Some(&node.id)).await?;
        if self.wants(&[Group::Svid]) {
            self.svids(house, &node, &entry_id, crypto, report).await?;
        }
        if self.wants(&[Group::Exchange]) {
            self.exchanges(house, &mut node, &entry_id, crypto, report).await?;
        }
        Ok(())
    }

    async fn svids(
        &self,
        house: &House,
        node: &Node,
        entry_id: &str,
        crypto: &Crypto,
        report: &mut Report,
    ) -> Result<()> {
        let name = format!("X.509-SVIDs, durable, {} in flight", svid::IN_FLIGHT);
        let (before, watch) = (crypto.verify_and_sign()?, house.watch()?);
        let load = svid::x509(node, entry_id, self.lengths.closed).await?;
        let (used, after) = (watch.end()?, crypto.verify_and_sign()?);
        let row = Row::new(name, Unit::PerSecond, load.per_second).of("verify + sign", (before + after) / 2.0);
        rated(report, row.target(Target::Share(0.45)), &load, used);

        let name = format!("JWT-SVIDs, durable, {} in flight", svid::IN_FLIGHT);
        let (before, watch) = (crypto.sign()?, house.watch()?);
        let load = svid::jwt(node, entry_id, self.lengths.closed).await?;
        let (used, after) = (watch.end()?, crypto.sign()?);
        let row = Row::new(name, Unit::PerSecond, load.per_second).of("sign", (before + after) / 2.0);
        rated(report, row.target(Target::AtLeast(5000.0)), &load, used);
        Ok(())
    }

    async fn exchanges(
        &self,
        house: &House,
        node: &mut Node,
        entry_id: &str,
        crypto: &Crypto,
        report: &mut Report,
    ) -> Result<()> {
        let mut connections = exchange::connect(house, node, entry_id).await?;
        let name = format!("exchanges for a task token, {} connections", exchange::CONNECTIONS);
        let (before, watch) = (crypto.verify_and_sign()?, house.watch()?);
        let load;
        (load, connections) = load::closed(connections, self.lengths.closed).await?;
        let (used, after) = (watch.end()?, crypto.verify_and_sign()?);
        let row = Row::new(name, Unit::PerSecond, load.per_second).of("verify + sign", (before + after) / 2.0);
        rated(report, row.target(Target::AtLeast(2000.0)), &load, used);

        let name = format!("exchange at {}/s, open loop", exchange::OPEN_RATE);
        let watch = house.watch()?;
        let open = load::open(connections, exchange::OPEN_RATE, self.lengths.open).await?;
        disturbed(report, &name, watch.end()?);
        report.add(Row::new(format!("{name}, p50"), Unit::Millis, open.millis(0.5)));
        report.add(Row::new(format!("{name}, p99"), Unit::Millis, open.millis(0.99)).target(Target::AtMost(25.0)));
        Ok(())
    }
}

/// How long each load runs, and how often each thing is done.
#[derive(Clone, Copy)]
struct Lengths {
    closed: Span,
    open: Span,
    entries: usize,
    errands: usize,
    changes: usize,
    idle: Duration,
}

impl Lengths {
    fn new(quick: bool) -> Self {
        if quick {
            let (closed, open) = (Span::millis(300, 1500), Span::millis(300, 3000));
            Self { closed, open, entries: 50, errands: 48, changes: 500, idle: Duration::from_secs(3) }
        } else {
            let (closed, open) = (Span::millis(1000, 5000), Span::millis(1000, 10_000));
            Self { closed, open, entries: 200, errands: 200, changes: 2000, idle: Duration::from_secs(10) }
        }
    }
}

fn postgres_is_installed() -> bool {
    Path::new("/usr/lib/postgresql").is_dir() || std::env::var_os("ERRAND_TEST_POSTGRES_BIN").is_some()
}

fn raw(dir: &Path, report: &mut Report) -> Result<Crypto> {
    let crypto = Crypto::new()?;
    let (both, sign, issue) = (crypto.verify_and_sign()?, crypto.sign()?, limits::issue(dir)?);
    report.add(Row::new("one core: P-256 verify + sign", Unit::PerSecond, both));
    report.add(Row::new("one core: P-256 sign", Unit::PerSecond, sign));
    let row = Row::new("one core: CSR check + certificate, product code", Unit::PerSecond, issue);
    report.add(row.of("verify + sign", both));
    Ok(crypto)
}

async fn whole_errands(house: &House, postgres: &PostgresFixture, lengths: Lengths, report: &mut Report) -> Result<()> {
    let done = errands::run(house, postgres, lengths.errands).await?;
    let row = Row::new("whole errands with a PostgreSQL user", Unit::PerSecond, done.per_second);
    report.add(row.of("psql alone", done.psql_per_second));
    report.add(Row::new("whole errand, p50", Unit::Millis, done.latencies.millis(0.5)));
    report.add(Row::new("whole errand, p99", Unit::Millis, done.latencies.millis(0.99)));
    report.note(format!(
        "whole errands: {} statements each to PostgreSQL {}, fsync on; psql: the same statements from files, no errand",
        done.statements,
        postgres.version() / 10_000
    ));
    Ok(())
}

/// The server's target holds under load, too.
fn memory_after(house: &House, report: &mut Report) -> Result<()> {
    let (server, agent) = (house.server_memory()?, house.agent_memory()?);
    report.add(Row::new("server: resident, most", Unit::Mebibytes, server.most).target(Target::AtMost(64.0)));
    report.add(Row::new("server: resident, after the load", Unit::Mebibytes, server.now));
    report.add(Row::new("agent: resident, most", Unit::Mebibytes, agent.most));
    Ok(())
}
