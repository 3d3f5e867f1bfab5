//! Project Wycheproof's vectors and what each verifier of the house is expected to say to them
//! (`tests/data/wycheproof.toml`). Shared by the tests of every crate that verifies signatures.
//!
//! The vectors are not part of the project: `ERRAND_CORPORA` names the folder that holds them. Without it a test says so
//! and goes on.

use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub suite: Vec<Suite>,
}

/// One file, as one verifier sees it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    pub file: String,
    pub verifier: String,
    accepted: usize,
    refused: usize,
    #[serde(default)]
    differs: Vec<Differs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Differs {
    ids: Vec<u64>,
    why: String,
}

pub fn list() -> List {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/data/wycheproof.toml"].iter().collect();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    toml::from_str(&text).expect("the list of expected outcomes")
}

/// The folder of the vectors, when there is one.
pub fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("ERRAND_CORPORA").filter(|dir| !dir.is_empty());
    let found = named.map(|dir| PathBuf::from(dir).join("wycheproof"));
    if found.is_none() {
        println!("ERRAND_CORPORA is not set: Wycheproof's vectors were not tried");
    }
    found
}

/// Shows every vector of the suites of `verifier` to `accepts`, which answers whether it took it: `(group, vector)`.
pub fn each_has_its_expected_outcome(verifier: &str, mut accepts: impl FnMut(&Value, &Value) -> bool) {
    let Some(folder) = folder() else { return };
    let suites: Vec<Suite> = list().suite.into_iter().filter(|s| s.verifier == verifier).collect();
    assert!(!suites.is_empty(), "no suite of the list is for {verifier}");
    for suite in suites {
        let path = folder.join(format!("{}_test.json", suite.file));
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file: Value = serde_json::from_slice(&text).expect("a file of vectors");
        suite.check(&file, &mut accepts);
    }
}

impl Suite {
    fn check(&self, file: &Value, accepts: &mut impl FnMut(&Value, &Value) -> bool) {
        let (mut accepted, mut refused, mut differ) = (0, 0, Vec::new());
        for group in file["testGroups"].as_array().expect("groups") {
            for vector in group["tests"].as_array().expect("vectors") {
                let (took, valid) = (accepts(group, vector), vector["result"] == "valid");
                if took {
                    accepted += 1
                } else {
                    refused += 1
                }
                if took != valid {
                    differ.push((vector["tcId"].as_u64().expect("a number"), vector["comment"].to_string()));
                }
            }
        }
        let listed = |id: &u64| self.differs.iter().any(|d| d.ids.contains(id));
        let surprises: Vec<_> = differ.iter().filter(|(id, _)| !listed(id)).collect();
        assert!(surprises.is_empty(), "{}: these differ and are not listed: {surprises:?}", self.file);
        for Differs { ids, why } in &self.differs {
            let none: Vec<_> = ids.iter().filter(|id| !differ.iter().any(|(d, _)| d == *id)).collect();
            assert!(none.is_empty(), "{}: {none:?} do not differ ({why})", self.file);
        }
        assert_eq!((accepted, refused), (self.accepted, self.refused), "{}: accepted, refused", self.file);
    }
}
