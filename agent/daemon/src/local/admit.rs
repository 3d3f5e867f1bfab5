//! Who may connect: a peer the kernel names, within its uid's share of connections and of streams.

use crate::shared::Shared;
use agent_core::{
    Caller as _,
    admission::{Admission, Permit, Refused},
};
use agent_workload::{PinError, PinnedCaller};
use std::{io, os::fd::AsFd, time::Duration};

/// Connections and streams at most, whatever the descriptor limit.
const MAX_CONNECTIONS: usize = 8192;
const MAX_STREAMS: usize = 16_384;
/// Descriptors the agent needs for itself, and what one connection costs: the socket, a pidfd, `/proc/PID`, a watch.
const OWN_DESCRIPTORS: usize = 96;
const DESCRIPTORS_EACH: usize = 4;
/// The wait after the kernel could not accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The shares of all peers of one agent.
pub struct Gate {
    connections: Admission,
    pub streams: Admission,
}

impl Gate {
    /// Shares that fit the process's limit of open files; one uid gets three quarters of them at most.
    pub fn for_this_process() -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self::for_files(open_files(&limits).unwrap_or(1024))
    }

    pub fn for_files(limit: usize) -> Self {
        let all = (limit.saturating_sub(OWN_DESCRIPTORS) / DESCRIPTORS_EACH).clamp(8, MAX_CONNECTIONS);
        let connections = Admission::new(all - all / 4, all);
        Self { connections, streams: Admission::new(MAX_STREAMS - MAX_STREAMS / 4, MAX_STREAMS) }
    }
}

/// The soft limit of `Max open files` in `/proc/self/limits`.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

/// Why a peer was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Share(#[from] Refused),
}

/// Pins the peer of a socket that was just accepted, and counts it.
pub fn admit(shared: &Shared, gate: &Gate, socket: &impl AsFd) -> Result<(PinnedCaller, Permit), NotAdmitted> {
    let caller = shared.witness.pin(socket)?;
    let permit = gate.connections.enter(caller.uid())?;
    Ok((caller, permit))
}

/// Waits a little after a failed accept: out of descriptors, the next attempt would fail at once, and for ever.
pub async fn pause_after(shared: &Shared, at: &str, e: &io::Error) {
    tracing::warn!(at, error = %e, "a connection cannot be accepted");
    shared.ports.clock.sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_is_read_as_the_kernel_writes_it() {
        let line = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 1048576              files     \n";
        assert_eq!(open_files(line), Some(1024));
        assert_eq!(open_files("Max open files  unlimited unlimited files"), Some(usize::MAX));
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn one_uid_never_gets_all_connections() {
        let gate = Gate::for_files(1024);
        let held: Vec<_> = (0..10_000).filter_map(|_| gate.connections.enter(7).ok()).collect();
        assert!(held.len() > 100 && held.len() * DESCRIPTORS_EACH < 1024);
        assert!(gate.connections.enter(8).is_ok());
    }
}
