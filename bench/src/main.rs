//! `make bench`: how fast the house is, each figure beside the raw limit of one core or of the disk, measured in the same
//! run. A table for people, JSON for whoever compares runs.
//!
//! Server and agent are processes of their own on the same cores as the client. Everything stays on 127.0.0.1 and ends
//! with this program.

mod client;
mod disk;
mod house;
mod limits;
mod load;
mod machine;
mod psql;
mod report;
mod rows;
mod stopwatch;

use anyhow::{Context, Result};
use clap::Parser;
use client::node::Node;
use house::House;
use limits::Crypto;
use load::Load;
use machine::Used;
use report::{Report, Row, Target, Unit};
use rows::{entry, errands, exchange, ledger, svid, verify};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use stopwatch::Span;
use testkit::postgres::PostgresFixture;
use tokio::runtime::Builder;

/// A database that keeps what it says it did, as a real one does; for `errand` and for `psql` alike.
const DURABLE: &[&str] = &["fsync=on", "full_page_writes=on"];

#[derive(Parser)]
#[command(name = "bench", about = "Measure server, agent and ledger on this machine")]
struct Args {
    /// A third of the time, for a first impression
    #[arg(long)]
    quick: bool,
    /// Write the figures here, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where stores lie while they are measured; a disk, or syncing costs nothing [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "daemon") {
        return daemon(&args[2..]);
    }
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What `errand server run …` or `errand agent run …` is, in this process, for as long as the one that started it lives.
fn daemon(args: &[OsString]) -> ExitCode {
    if nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).is_err() {
        return ExitCode::FAILURE;
    }
    let (what, rest) = args.split_at(args.len().min(1));
    let command = [&["errand".into()], what, &["run".into()], rest].concat();
    ExitCode::from(u8::try_from(cli::main(command)).unwrap_or(1))
}

fn run(args: Args) -> Result<()> {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::Builder::new().prefix("errand-bench-").tempdir_in(&parent);
    let dir = dir.with_context(|| format!("{}", parent.display()))?;
    let mut report = Report::default();
    let measured = measure(&args, dir.path(), &mut report);
    // What was measured before something failed is still worth its time.
    println!("{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("{}", path.display()))?;
    }
    measured.with_context(|| House::logs(dir.path()))
}

fn measure(args: &Args, dir: &Path, report: &mut Report) -> Result<()> {
    let lengths = Lengths::new(args.quick);
    report.note(machine::describe());
    let crypto = raw(dir, report)?;
    // As many threads as a server has.
    let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    threads.block_on(alone(dir, lengths, report))?;
    drop(threads);
    // The client is one thread: it shares the cores with what it measures, and what it burns is missing there.
    Builder::new_current_thread().enable_all().build()?.block_on(together(dir, &crypto, lengths, report))
}

/// Server, agent and database, with a client.
async fn together(dir: &Path, crypto: &Crypto, lengths: Lengths, report: &mut Report) -> Result<()> {
    let postgres = if postgres_is_installed() { Some(PostgresFixture::start_with(DURABLE).await) } else { None };
    let targets = postgres.as_ref().map(|p| p.target_toml(errands::TARGET)).unwrap_or_default();
    let mut house = House::start(dir, &format!("{targets}{}", exchange::SSH_TARGET)).await?;
    house.start_agent().await?;
    house.create_entry(house::PERSON, None).await?;
    served(&house, crypto, lengths, report).await?;
    match &postgres {
        Some(postgres) => whole_errands(&house, postgres, lengths, report).await?,
        None => report.note("whole errands: PostgreSQL is not installed (apt-get install postgresql)"),
    }
    memory_after(&house, report)?;
    // Last: its leases live on for five minutes, and so does what they take of the server's memory.
    certificates(&house, crypto, lengths, report).await?;
    house.stop().await
}

async fn certificates(house: &House, crypto: &Crypto, lengths: Lengths, report: &mut Report) -> Result<()> {
    let mut node = Node::attest(house).await?;
    let entry_id = house.create_entry(house::SSH_LOAD, Some(&node.id)).await?;
    let connections = exchange::connect_ssh(house, &mut node, &entry_id).await?;
    let name = format!("exchanges for an SSH certificate, {} connections", exchange::CONNECTIONS);
    let (before, watch, empty) = (crypto.verify_and_sign()?, house.watch()?, house.server_memory()?.now);
    let (load, _) = load::closed(connections, lengths.closed).await?;
    let (used, after) = (watch.end()?, crypto.verify_and_sign()?);
    let row = Row::new(name, Unit::PerSecond, load.per_second).of("verify + sign", (before + after) / 2.0);
    rated(report, row.target(Target::AtLeast(3000.0)), &load, used);
    let grown = house.server_memory()?.now - empty;
    report.add(Row::new("server: resident, for the leases of these", Unit::Mebibytes, grown));
    Ok(())
}

/// How long each load runs, and how often each thing is done.
#[derive(Clone, Copy)]
struct Lengths {
    closed: Span,
    open: Span,
    entries: usize,
    errands: usize,
}

impl Lengths {
    fn new(quick: bool) -> Self {
        if quick {
            let (closed, open) = (Span::millis(300, 1500), Span::millis(300, 3000));
            Self { closed, open, entries: 50, errands: 48 }
        } else {
            let (closed, open) = (Span::millis(1000, 5000), Span::millis(1000, 10_000));
            Self { closed, open, entries: 200, errands: 200 }
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

/// The ledger without the rest.
async fn alone(dir: &Path, lengths: Lengths, report: &mut Report) -> Result<()> {
    let syncs = disk::syncs_per_second(dir, Duration::from_secs(1))?;
    let rows = disk::rows_per_second(dir, 256, Duration::from_millis(1500))?;
    report.add(Row::new("disk: append 4 KiB and sync", Unit::PerSecond, syncs));
    report.add(Row::new("disk: SQLite rows in synced groups of 256", Unit::PerSecond, rows));
    for callers in [1, 64, 256] {
        let load = ledger::commits(dir, callers, lengths.closed).await?;
        let row = Row::new(format!("ledger: commits, {callers} callers"), Unit::PerSecond, load.per_second);
        report.add(if callers == 1 { row.of("syncs", syncs) } else { row.of("SQLite rows", rows) });
    }
    let row = Row::new("journal: records verified, one core", Unit::PerSecond, verify::per_second()?);
    report.add(row.target(Target::AtLeast(200_000.0)));
    Ok(())
}

async fn served(house: &House, crypto: &Crypto, lengths: Lengths, report: &mut Report) -> Result<()> {
    let mut node = Node::attest(house).await?;
    let entry_id = house.create_entry(house::LOAD, Some(&node.id)).await?;

    let watch = house.watch()?;
    let took = entry::to_svid(house, lengths.entries).await?;
    disturbed(report, "entry created → SVID", watch.end()?);
    report.add(Row::new("entry created → SVID in hand, p50", Unit::Millis, took.millis(0.5)));
    let row = Row::new("entry created → SVID in hand, p99", Unit::Millis, took.millis(0.99));
    report.add(row.target(Target::AtMost(30.0)));
    idle(house, report)?;

    let name = format!("X.509-SVIDs, durable, {} in flight", svid::IN_FLIGHT);
    let (before, watch) = (crypto.verify_and_sign()?, house.watch()?);
    let load = svid::x509(&node, &entry_id, lengths.closed).await?;
    let (used, after) = (watch.end()?, crypto.verify_and_sign()?);
    let row = Row::new(name, Unit::PerSecond, load.per_second).of("verify + sign", (before + after) / 2.0);
    rated(report, row.target(Target::Share(0.45)), &load, used);

    let name = format!("JWT-SVIDs, durable, {} in flight", svid::IN_FLIGHT);
    let (before, watch) = (crypto.sign()?, house.watch()?);
    let load = svid::jwt(&node, &entry_id, lengths.closed).await?;
    let (used, after) = (watch.end()?, crypto.sign()?);
    let row = Row::new(name, Unit::PerSecond, load.per_second).of("sign", (before + after) / 2.0);
    rated(report, row.target(Target::AtLeast(5000.0)), &load, used);

    let mut connections = exchange::connect(house, &mut node, &entry_id).await?;
    let name = format!("exchanges for a task token, {} connections", exchange::CONNECTIONS);
    let (before, watch) = (crypto.verify_and_sign()?, house.watch()?);
    let load;
    (load, connections) = load::closed(connections, lengths.closed).await?;
    let (used, after) = (watch.end()?, crypto.verify_and_sign()?);
    let row = Row::new(name, Unit::PerSecond, load.per_second).of("verify + sign", (before + after) / 2.0);
    rated(report, row.target(Target::AtLeast(2000.0)), &load, used);

    let name = format!("exchange at {}/s, open loop", exchange::OPEN_RATE);
    let watch = house.watch()?;
    let open = load::open(connections, exchange::OPEN_RATE, lengths.open).await?;
    disturbed(report, &name, watch.end()?);
    report.add(Row::new(format!("{name}, p50"), Unit::Millis, open.millis(0.5)));
    report.add(Row::new(format!("{name}, p99"), Unit::Millis, open.millis(0.99)).target(Target::AtMost(25.0)));
    Ok(())
}

/// A rate, how long one waits for it at the end of the queue, and what it costs the server.
fn rated(report: &mut Report, row: Row, load: &Load, used: Used) {
    let name = row.name.split(", ").next().unwrap_or_default().to_string();
    disturbed(report, &name, used);
    report.add(row);
    report.add(Row::new(format!("  {name}, p99"), Unit::Millis, load.latencies.millis(0.99)));
    let each = used.server / load.total.max(1) as f64 * 1e6;
    report.add(Row::new(format!("  {name}, the server's CPU each"), Unit::Micros, each));
}

fn disturbed(report: &mut Report, what: &str, used: Used) {
    if let Some(remark) = used.remark(what) {
        report.note(remark);
    }
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

fn idle(house: &House, report: &mut Report) -> Result<()> {
    let agent = house.agent_memory()?;
    report.add(Row::new("agent: resident, idle", Unit::Mebibytes, agent.now).target(Target::AtMost(20.0)));
    report.add(Row::new("server: resident, idle", Unit::Mebibytes, house.server_memory()?.now));
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
