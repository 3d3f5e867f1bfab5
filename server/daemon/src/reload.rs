//! Reading the configuration again: all of it comes into force or none. What may change while the server runs is what it
//! declares, targets and policies.
//!
//! Decides what takes a restart: everything else. A file that changes such a thing is refused whole, so that a server never
//! runs with one half of a file and its operator believes in the other.

use crate::{
    config::{ConfigProblem, ServerConfig},
    start::{Running, StartError},
};
use proto_types::{Record, file::read_text};
use server_core::ports::Commit;
use server_service::{Service, ServiceError};
use std::{collections::BTreeSet, path::Path};
use toml::Table;

/// Largest policy document, bytes.
const MAX_POLICY: usize = 1024 * 1024;

impl Running {
    /// Makes so what the file at `path` declares now: targets and policies. When that cannot be, everything stays as it
    /// is, which is counted and on record.
    pub async fn reload(&self, path: &Path) -> Result<(), StartError> {
        let outcome = self.reread(path).await;
        self.metrics.reloaded(outcome.is_ok());
        if let Err(error) = &outcome {
            let refused = Record::new(self.clock.now(), "server.reload_refused")
                .outcome("refused")
                .detail(serde_json::json!({ "why": error.to_string() }));
            if let Err(error) = self.service.ports().ledger.commit(Commit::of(refused)).await {
                tracing::warn!(%error, "that the configuration was refused could not be recorded");
            }
        }
        outcome
    }

    async fn reread(&self, path: &Path) -> Result<(), StartError> {
        let config = ServerConfig::load(path).map_err(StartError::Config)?;
        let changed = differences(&self.fixed, &config.fixed);
        if !changed.is_empty() {
            return Err(StartError::Config(changed));
        }
        declare(&config, &self.service).await
    }
}

/// Makes so what a configuration file declares: targets and policies. A policy that does not compile changes no target.
pub(crate) async fn declare(config: &ServerConfig, service: &Service) -> Result<(), StartError> {
    let mut policies = Vec::new();
    for (name, path) in &config.policies {
        let text = read_text(path, MAX_POLICY)
            .map_err(|e| ServiceError::Invalid(format!("[policy] files: `{}` {e}", path.display())))?;
        let problems = service.policy_problems(name, &text);
        if !problems.is_empty() {
            return Err(ServiceError::Policy(problems).into());
        }
        policies.push((name, text));
    }
    service.targets_declare(config.targets.clone()).await?;
    for (name, text) in policies {
        service.policy_apply(name, &text, Some("configuration".into())).await?;
    }
    Ok(())
}

/// What of `file` takes a restart to change.
pub(crate) fn fixed(mut file: Table) -> Table {
    file.remove("target");
    file.remove("policy");
    file
}

fn differences(running: &Table, read: &Table) -> Vec<ConfigProblem> {
    let none = Table::new();
    let mut changed = Vec::new();
    let mut restart = |at: String| {
        let what = "changed, and takes a restart; nothing of the file is in force before that";
        changed.push(ConfigProblem { at, what: what.into() });
    };
    for name in both(running, read) {
        let table = |of: &Table| match of.get(name) {
            None => Some(none.clone()),
            Some(section) => section.as_table().cloned(),
        };
        match (table(running), table(read)) {
            (Some(before), Some(after)) => both(&before, &after)
                .into_iter()
                .filter(|key| before.get(*key) != after.get(*key))
                .for_each(|key| restart(format!("[{name}] {key}"))),
            _ if running.get(name) != read.get(name) => restart(format!("[[{name}]]")),
            _ => {}
        }
    }
    changed
}

fn both<'a>(one: &'a Table, other: &'a Table) -> BTreeSet<&'a str> {
    one.keys().chain(other.keys()).map(String::as_str).collect()
}
