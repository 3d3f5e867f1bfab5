//! The launch socket: a launcher shows the file it is about to execute, then the child that executes it.
//!
//! Decides that the child is the launcher's own, unchanged in identity, and that it runs what was measured; else the
//! task ends. What a measured command earns is the entry's.

mod child;
mod conversation;
mod socket;

pub use conversation::serve;
pub use socket::bind;

use agent_core::membership::ProcKey;
use agent_workload::Measured;
use proto_types::{Entropy, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a measurement may be redeemed.
const REDEEM_WITHIN: Duration = Duration::from_secs(60);
/// Measurements that wait to be redeemed: of all launchers, and of one.
const MAX_LAUNCHES: usize = 1024;
const MAX_OF_ONE: usize = 16;

struct Launch {
    owner: ProcKey,
    measured: Arc<Measured>,
    expires_at: Timestamp,
}

/// Measured commands that no task was started with yet.
#[derive(Default)]
pub struct Launches(Mutex<HashMap<String, Launch>>);

impl Launches {
    /// A launch id: 128 random bits in hex, good once, for `owner` only, for a minute. `None`: too many wait.
    fn add(&self, owner: ProcKey, measured: Arc<Measured>, now: Timestamp, entropy: &dyn Entropy) -> Option<String> {
        let mut random = [0u8; 16];
        entropy.fill(&mut random);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, l| now < l.expires_at);
        let of_owner = waiting.values().filter(|l| l.owner == owner).count();
        if waiting.len() >= MAX_LAUNCHES || of_owner >= MAX_OF_ONE {
            return None;
        }
        let id = hex::encode(random);
        waiting.insert(id.clone(), Launch { owner, measured, expires_at: now.plus(REDEEM_WITHIN) });
        Some(id)
    }

    /// Redeems a launch id. One that another process presents stays its owner's.
    pub fn redeem(&self, id: &str, by: ProcKey, now: Timestamp) -> Option<Arc<Measured>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(id).filter(|l| l.owner == by && now < l.expires_at)?;
        waiting.remove(id).map(|l| l.measured)
    }
}
