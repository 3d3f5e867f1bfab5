//! `tests-evidence FILE`: whether every test that `docs/conformance.md` and `docs/hardening.md` name passed in the run
//! whose output is in FILE. What `make test` ends with.

use std::process::ExitCode;
use tests_evidence::{named, run::Run};

fn main() -> ExitCode {
    match judge() {
        Ok(n) => {
            println!("evidence: all {n} tests that docs/conformance.md and docs/hardening.md name passed in this run");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("evidence: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn judge() -> Result<usize, String> {
    let file = std::env::args_os().nth(1).ok_or("name the file with the output of the run: tests-evidence FILE")?;
    let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let named = named()?;
    let run = Run::read(&String::from_utf8_lossy(&bytes));
    let lacks = run.lacks(&named);
    if lacks.is_empty() {
        return Ok(named.len());
    }
    let lines: Vec<_> = lacks.iter().map(|(name, why)| format!("  {name} {why}")).collect();
    Err(format!("the documents name tests that this run does not show:\n{}", lines.join("\n")))
}
