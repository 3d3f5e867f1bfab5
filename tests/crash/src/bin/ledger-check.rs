//! Compares what clients saw with journal, store and target of a server at rest; prints what contradicts, as sets.
//! Exits 0 when nothing does, 1 when something does, 2 when an account cannot be read.

use clap::Parser as _;
use tests_crash::{
    check::check,
    evidence::{Evidence, Sources},
};

/// Holds what clients saw, the journal, the store and the target against each other
#[derive(clap::Parser)]
#[command(after_help = "EXAMPLES\n  ledger-check --seen seen.jsonl --journal export.jsonl --store errand.db \
                        --target-url postgres://postgres@127.0.0.1/orders")]
struct Arguments {
    #[command(flatten)]
    sources: Sources,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let evidence = match Evidence::read(&arguments.sources).await {
        Ok(evidence) => evidence,
        Err(error) => {
            eprintln!("ledger-check: {error}");
            return 2.into();
        }
    };
    let violations = check(&evidence);
    print!("{violations}");
    let (seen, leases) = (evidence.seen.len(), evidence.leases.len());
    eprintln!(
        "{seen} observations, {} records, {leases} leases, {} roles",
        evidence.records.len(),
        evidence.roles.len()
    );
    u8::from(!violations.is_empty()).into()
}
