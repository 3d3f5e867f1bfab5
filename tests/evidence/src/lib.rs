//! Which test shows what: the data behind `docs/conformance.md` and `docs/hardening.md`, the pages made of it, and the
//! comparison with a run.
//!
//! Decides that a claim names a test of this tree, and that the test passed in the run that is looked at. What a test
//! checks is the test's.

pub mod conformance;
pub mod hardening;
pub mod run;
pub mod tree;

use std::{collections::BTreeSet, path::PathBuf};

/// The folder of the whole workspace.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every test that either page names.
pub fn named() -> Result<BTreeSet<String>, String> {
    let mut all = conformance::read()?.tests();
    all.extend(hardening::read()?.tests());
    Ok(all)
}

/// A test's name as a page shows it.
fn code(tests: &[String]) -> String {
    tests.iter().map(|t| format!("`{t}`")).collect::<Vec<_>>().join("<br>")
}

/// What both pages say of how they come about.
const MADE: &str = "Written from data (`tests/evidence/data`); a test keeps both equal (`ERRAND_BLESS=1` writes this page \
                    anew), and each test named here is in the tree. `make test` ends by looking for every one of them in \
                    what it just ran: one that did not run, or did not pass, fails it. So on a commit whose `make test` \
                    passed, everything below passed.";
