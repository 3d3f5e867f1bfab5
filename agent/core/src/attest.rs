//! The port of workload attestation: a pinned caller in, selectors out.
//!
//! Decides the shape only. An attestor is a folder of `agent-workload` and one line where the daemon lists them;
//! neither this crate nor the daemon's code changes when one is added.

use proto_types::{Fut, Selector, id::excerpt};
use std::{collections::BTreeSet, os::fd::BorrowedFd};

/// Most selectors one caller may have, over all attestors.
pub const MAX_CALLER_SELECTORS: usize = 8192;

/// Why a caller is no longer who it was when it was pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    #[error("process {pid} has exited since it connected; its connection earns nothing")]
    Exited { pid: i32 },
    #[error("process {pid} changed its {what} since it connected; connect again")]
    Changed { pid: i32, what: &'static str },
    #[error("cannot read {what} of process {pid}: {why}; the agent needs to see every process it serves in /proc")]
    Unreadable { pid: i32, what: &'static str, why: String },
}

/// A process that the kernel named, held so that its pid cannot come to mean another one unnoticed.
pub trait Caller: Send + Sync {
    fn pid(&self) -> i32;
    fn uid(&self) -> u32;
    fn gid(&self) -> u32;
    /// Clock ticks since boot (`/proc/PID/stat`, field 22).
    fn start_time(&self) -> u64;
    /// The directory `/proc/PID`, opened once; it never names a later process of the same number.
    fn proc_dir(&self) -> BorrowedFd<'_>;
    /// That the process lives and still has the identity it was pinned with. Called before every reply.
    fn recheck(&self) -> Result<(), CallerError>;
}

/// Why an attestor could not say what a process is. Never answered by an empty list of selectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    #[error(transparent)]
    Caller(#[from] CallerError),
    #[error("the `{attestor}` attestor could not read {what}: {why}")]
    Unreadable { attestor: &'static str, what: &'static str, why: String },
    #[error("the `{attestor}` attestor found {got} {what}, the limit is {limit}")]
    TooMany { attestor: &'static str, what: &'static str, got: usize, limit: usize },
}

/// One way to attest a running process.
pub trait WorkloadAttestor: Send + Sync {
    /// The name in the configuration and the type of its selectors: `unix`, `systemd`, …
    fn kind(&self) -> &'static str;
    /// What is true of `caller` now. The result holds only if [`Caller::recheck`] succeeds after it.
    fn attest<'a>(&'a self, caller: &'a dyn Caller) -> Fut<'a, Result<Vec<Selector>, AttestError>>;
}

/// Asks every attestor in turn and checks the caller afterwards: a process that died meanwhile, or became another
/// program, gets an error and never selectors.
pub async fn attest_all(
    attestors: &[std::sync::Arc<dyn WorkloadAttestor>],
    caller: &dyn Caller,
) -> Result<BTreeSet<Selector>, AttestError> {
    let mut all = BTreeSet::new();
    for attestor in attestors {
        all.extend(attestor.attest(caller).await?);
        if all.len() > MAX_CALLER_SELECTORS {
            let (attestor, got) = (attestor.kind(), all.len());
            return Err(AttestError::TooMany { attestor, what: "selectors", got, limit: MAX_CALLER_SELECTORS });
        }
    }
    caller.recheck()?;
    Ok(all)
}

impl AttestError {
    /// An [`AttestError::Unreadable`] whose reason is cut to what may be shown.
    pub fn unreadable(attestor: &'static str, what: &'static str, why: &dyn std::fmt::Display) -> Self {
        Self::Unreadable { attestor, what, why: excerpt(&why.to_string()) }
    }
}
