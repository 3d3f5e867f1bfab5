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
mod openbao;
mod plan;
mod psql;
mod report;
mod rows;
mod stopwatch;

use anyhow::{Context, Result};
use clap::Parser;
use house::House;
use plan::{Group, Plan};
use report::Report;
use std::{ffi::OsString, path::PathBuf, process::ExitCode};

#[derive(Parser)]
#[command(name = "bench", about = "Measure server, agent and ledger on this machine")]
struct Args {
    /// A third of the time, for a first impression
    #[arg(long)]
    quick: bool,
    /// These groups of rows only, separated by commas
    #[arg(long, value_name = "GROUP", value_enum, value_delimiter = ',')]
    rows: Vec<Group>,
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
    let plan = Plan::new(args.rows, args.quick);
    let measured = plan.measure(dir.path(), &mut report);
    // What was measured before something failed is still worth its time.
    println!("{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("{}", path.display()))?;
    }
    measured.with_context(|| House::logs(dir.path()))
}
