//! What a run of `cargo test` printed: which tests passed in it, and which of the named ones did not.

use std::collections::{BTreeMap, BTreeSet};

/// Each test by its last name, and whether every one of that name passed.
#[derive(Debug, PartialEq, Eq)]
pub struct Run(BTreeMap<String, bool>);

impl Run {
    /// Reads `test path::to::name ... ok`. Everything else a run prints is passed over; what is neither `ok` nor
    /// anything else on its line, as when a test was cut off, did not pass.
    pub fn read(output: &str) -> Self {
        let mut seen = BTreeMap::new();
        for (path, outcome) in output.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... ")) {
            let name = path.trim_end_matches(" - should panic").rsplit("::").next().unwrap_or(path);
            let passed = seen.entry(name.to_string()).or_insert(true);
            *passed &= outcome.trim_end() == "ok";
        }
        Self(seen)
    }

    /// The named tests that the run does not show: (name, why).
    pub fn lacks<'a>(&self, named: &'a BTreeSet<String>) -> Vec<(&'a str, &'static str)> {
        let why = |name: &str| match self.0.get(name) {
            None => Some("did not run"),
            Some(false) => Some("did not pass"),
            Some(true) => None,
        };
        named.iter().filter_map(|name| Some((name.as_str(), why(name)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_shown_when_it_ran_and_passed_everywhere() {
        let run = Run::read(
            "running 5 tests\n\
             test a::good ... ok\n\
             test bad ... FAILED\n\
             test b::skipped ... ignored, needs a moon\n\
             test twice ... ok\n\
             test c::twice ... FAILED\n\
             test cut ... \n\
             not a test good2 ... ok\n\
             test result: ok. 1 passed\n",
        );
        let named = ["good", "bad", "skipped", "twice", "cut", "good2"].map(String::from).into();
        let not = "did not pass";
        assert_eq!(
            run.lacks(&named),
            [("bad", not), ("cut", not), ("good2", "did not run"), ("skipped", not), ("twice", not)]
        );
    }
}
