//! The parent chain of a process, read twice.
//!
//! Decides nothing: [`agent_core::membership::innermost`] does.

use crate::{
    proc::{Proc, ReadError},
    witness::Witness,
};
use agent_core::{
    Caller,
    membership::{MAX_CHAIN, Membership, MembershipError, ProcFacts, ProcKey, Registry, innermost},
};

/// How often a chain that moved under the reading is read again.
const ATTEMPTS: usize = 3;

/// Why membership is unknown. Task credentials are refused; nothing is guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("cannot read process {pid} in the parent chain: {why}")]
    Unreadable { pid: i32, why: ReadError },
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// Reads the process, its parent, and so on, up to the first for which `is_root` holds or that has no parent; at most
/// one more than [`MAX_CHAIN`], so that a longer one is seen to be.
pub fn read(
    witness: &Witness,
    caller: &dyn Caller,
    is_root: impl Fn(ProcKey) -> bool,
) -> Result<Vec<ProcFacts>, ChainError> {
    let unreadable = |pid| move |why| ChainError::Unreadable { pid, why };
    let mut next = Proc(caller.proc_dir()).facts().map_err(unreadable(caller.pid()))?;
    let mut chain = Vec::new();
    loop {
        let (ppid, end) = (next.ppid, next.ppid == 0 || is_root(next.key()));
        chain.push(next);
        if end || chain.len() > MAX_CHAIN {
            return Ok(chain);
        }
        next = witness.dir(ppid).and_then(|dir| dir.as_dir().facts()).map_err(unreadable(ppid))?;
    }
}

/// The task `caller` is in: two readings, decided; again when they differ because a process on the way ended.
pub fn membership(witness: &Witness, caller: &dyn Caller, registry: &Registry) -> Result<Membership, ChainError> {
    if registry.is_empty() {
        return Ok(Membership::Outside);
    }
    let once = || read(witness, caller, |key| registry.at(key).is_some());
    let mut attempt = 1;
    loop {
        let decided = once().and_then(|first| {
            let second = once()?;
            innermost(registry, &first, &second).map_err(ChainError::from)
        });
        let moved = matches!(
            decided,
            Err(ChainError::Membership(MembershipError::Moved { .. } | MembershipError::Broken { .. })
                | ChainError::Unreadable { why: ReadError::Gone, .. })
        );
        if !moved || attempt == ATTEMPTS {
            return decided;
        }
        attempt += 1;
    }
}
