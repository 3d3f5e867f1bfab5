//! What holds secrets leaves no core behind: neither a file nor bytes for whatever program the machine pipes cores to.
//!
//! Decides for every command of this binary. What `errand run` starts has the limit back that it was started with.

use nix::sys::{
    prctl,
    resource::{Resource, getrlimit, setrlimit},
};

/// Too small for any file, and the one number at which the kernel dumps into no pipe either; 0 does not hold for pipes.
const NONE: u64 = 1;

/// The limit on cores as it was: soft, then hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreLimit(pub u64, pub u64);

/// Forbids cores of this process. Answers what held before; none when it could not be changed.
pub fn forbid() -> Option<CoreLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).ok()?;
    setrlimit(Resource::RLIMIT_CORE, NONE.min(hard), hard).ok()?;
    Some(CoreLimit(soft, hard))
}

/// For a daemon besides: no process of the same uid may trace it or read its memory. Not for a command, whose file and
/// memory map the agent reads to know it.
pub fn forbid_tracing() {
    // Refused: the limit above still holds.
    let _ = prctl::set_dumpable(false);
}
