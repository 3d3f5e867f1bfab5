//! Which attestors there are. A node method comes from the registry of `proto-attest`; a workload attestor is one line
//! in [`KINDS`].

use super::ConfigProblem;
use agent_core::WorkloadAttestor;
use agent_workload::{Hasher, UnixAttestor, unix};
use proto_attest::Prover;
use proto_types::{Clock, id::excerpt};
use serde::Deserialize as _;
use std::sync::Arc;
use toml::{Table, Value};

/// What an attestor is built with.
#[derive(Clone)]
pub struct AttestorPorts {
    pub clock: Arc<dyn Clock>,
    /// One cache of file hashes for all.
    pub hasher: Arc<Hasher>,
}

/// Builds an attestor whose section has been checked.
pub type BuildAttestor = Arc<dyn Fn(&AttestorPorts) -> Arc<dyn WorkloadAttestor> + Send + Sync>;
type ReadSection = fn(Table) -> Result<BuildAttestor, String>;

/// Every workload attestor: its kind, and who reads its section.
const KINDS: &[(&str, ReadSection)] = &[(unix::KIND, unix_section)];

fn unix_section(table: Table) -> Result<BuildAttestor, String> {
    let config = unix::Config::deserialize(Value::Table(table)).map_err(|e| excerpt(e.message()))?;
    Ok(Arc::new(move |ports| Arc::new(UnixAttestor::with_hasher(&config, ports.clock.clone(), ports.hasher.clone()))))
}

/// `[[workload_attestor]]`. Without any, `unix` with its defaults.
pub(super) fn workload(value: Option<Value>, problems: &mut Vec<ConfigProblem>) -> Vec<BuildAttestor> {
    let mut problem = |at: String, what: String| problems.push(ConfigProblem { at, what });
    let sections = match value {
        None => vec![Value::Table(Table::from_iter([("kind".to_string(), Value::String(unix::KIND.into()))]))],
        Some(Value::Array(sections)) => sections,
        Some(_) => {
            problem("workload_attestor".into(), "write [[workload_attestor]], once for each".into());
            return Vec::new();
        }
    };
    let mut seen = Vec::new();
    let mut build = Vec::new();
    for (i, section) in sections.into_iter().enumerate() {
        let at = format!("workload_attestor[{i}]");
        let Some((kind, table)) = kind_of(section) else {
            problem(format!("{at}.kind"), format!("is missing; known are {}", known(KINDS.iter().map(|k| k.0))));
            continue;
        };
        let Some((name, read)) = KINDS.iter().find(|k| k.0 == kind) else {
            let known = known(KINDS.iter().map(|k| k.0));
            problem(format!("{at}.kind"), format!("`{}` is not known; known are {known}", excerpt(&kind)));
            continue;
        };
        if seen.contains(name) {
            problem(format!("{at}.kind"), format!("`{name}` is configured twice"));
            continue;
        }
        seen.push(name);
        match read(table) {
            Ok(builder) => build.push(builder),
            Err(what) => problem(at, what),
        }
    }
    build
}

/// `[node_attestor]`.
pub(super) fn node(value: Option<Value>, problems: &mut Vec<ConfigProblem>) -> Option<Arc<dyn Prover>> {
    let at = |key: &str| if key.is_empty() { "node_attestor".into() } else { format!("node_attestor.{key}") };
    let known = known(proto_attest::METHODS.iter().map(|m| m.name));
    let mut problem = |key: &str, what: String| problems.push(ConfigProblem { at: at(key), what });
    let Some(section) = value else {
        problem("", format!("the section [node_attestor] is missing; write its `kind`, one of {known}"));
        return None;
    };
    let Some((kind, table)) = kind_of(section) else {
        problem("kind", format!("is missing; known are {known}"));
        return None;
    };
    let Some(method) = proto_attest::method(&kind) else {
        problem("kind", format!("`{}` is not known; known are {known}", excerpt(&kind)));
        return None;
    };
    match (method.prover)(&table) {
        Ok(prover) => Some(prover),
        Err(found) => {
            found.into_iter().for_each(|p| problem(p.key, p.what));
            None
        }
    }
}

fn kind_of(section: Value) -> Option<(String, Table)> {
    let Value::Table(mut table) = section else { return None };
    match table.remove("kind") {
        Some(Value::String(kind)) => Some((kind, table)),
        _ => None,
    }
}

fn known<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}
