//! The `unix` attestor: what the kernel knows of any process. Selectors, as SPIRE spells them: `unix:uid`, `user`, `gid`,
//! `group`, `supplementary_gid`, `supplementary_group`, `path`, `sha256`.
//!
//! A name that does not resolve, a program that was deleted, that the agent may not read or that is too large gives no
//! selector of that type: an entry that asks for it does not match. A process that cannot be read at all is an error.

mod names;
mod program;

use crate::{hash::Hasher, proc::Proc};
use agent_core::{AttestError, Caller, CallerError, WorkloadAttestor};
use names::Names;
use program::Programs;
use proto_types::{Clock, Fut, Selector};
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Arc};

pub const KIND: &str = "unix";
/// Most supplementary groups; each costs two selectors and a lookup.
const MAX_GROUPS: usize = 2048;

/// The section `[[workload_attestor]] kind = "unix"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether `path` and `sha256` are attested.
    pub discover_workload_path: bool,
    /// Programs larger than this, bytes, get no `sha256`.
    pub max_hash_size: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { discover_workload_path: true, max_hash_size: crate::hash::DEFAULT_LIMIT }
    }
}

pub struct UnixAttestor {
    names: Names,
    programs: Option<Programs>,
}

impl UnixAttestor {
    /// An attestor with a cache of hashes of its own.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Self {
        let hasher = Arc::new(Hasher::new(clock.clone(), config.max_hash_size));
        Self::with_hasher(config, clock, hasher)
    }

    /// One that shares its cache of hashes, with [`crate::measure`] say.
    pub fn with_hasher(config: &Config, clock: Arc<dyn Clock>, hasher: Arc<Hasher>) -> Self {
        let programs = config.discover_workload_path.then(|| Programs::new(hasher));
        Self { names: Names::new(clock), programs }
    }

    async fn selectors(&self, caller: &dyn Caller) -> Result<Vec<Selector>, AttestError> {
        let mut found = Found(BTreeSet::new());
        found.add("uid", caller.uid());
        found.add("gid", caller.gid());
        let groups = supplementary(caller)?;
        if let Some(name) = self.names.user(caller.uid()).await {
            found.add("user", name);
        }
        if let Some(name) = self.names.group(caller.gid()).await {
            found.add("group", name);
        }
        for gid in groups {
            found.add("supplementary_gid", gid);
            if let Some(name) = self.names.group(gid).await {
                found.add("supplementary_group", name);
            }
        }
        if let Some(programs) = &self.programs {
            let program = programs.of(caller).await?;
            program.path.iter().for_each(|path| found.add("path", path));
            program.sha256.iter().for_each(|hash| found.add("sha256", hash));
        }
        Ok(found.0.into_iter().collect())
    }
}

/// Selectors gathered so far. A value that no selector can carry (empty, too long) is left out.
struct Found(BTreeSet<Selector>);

impl Found {
    fn add(&mut self, key: &str, value: impl std::fmt::Display) {
        self.0.extend(Selector::new(KIND, format!("{key}:{value}")).ok());
    }
}

fn supplementary(caller: &dyn Caller) -> Result<BTreeSet<u32>, AttestError> {
    let status = Proc(caller.proc_dir()).status().map_err(|why| gone_or(caller, "status", &why))?;
    let groups: BTreeSet<u32> = status.groups.into_iter().collect();
    if groups.len() > MAX_GROUPS {
        let (attestor, what, got) = (KIND, "supplementary groups", groups.len());
        return Err(AttestError::TooMany { attestor, what, got, limit: MAX_GROUPS });
    }
    Ok(groups)
}

/// A file of `/proc/PID` that is gone means that the process is.
fn gone_or(caller: &dyn Caller, what: &'static str, why: &crate::proc::ReadError) -> AttestError {
    match why {
        crate::proc::ReadError::Gone => CallerError::Exited { pid: caller.pid() }.into(),
        why => AttestError::unreadable(KIND, what, why),
    }
}

impl WorkloadAttestor for UnixAttestor {
    fn kind(&self) -> &'static str {
        KIND
    }
    fn attest<'a>(&'a self, caller: &'a dyn Caller) -> Fut<'a, Result<Vec<Selector>, AttestError>> {
        Box::pin(self.selectors(caller))
    }
}
