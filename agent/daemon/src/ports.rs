//! What the agent is given by whoever starts it: time and randomness.

use agent_core::rotation;
use proto_types::{Clock, Entropy, OsEntropy, SystemClock};
use std::{sync::Arc, time::Duration};

/// How long one reading of the wall clock is relied upon.
const LOOKS_EVERY: Duration = Duration::from_secs(15);

/// The ports of one agent.
#[derive(Clone)]
pub struct Ports {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

impl Ports {
    /// The machine's own.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) }
    }

    /// A number in `[0, 1)`.
    pub(crate) fn jitter(&self) -> f64 {
        let mut random = [0u8; 8];
        self.entropy.fill(&mut random);
        rotation::jitter(random)
    }

    /// The wait after `failures` failures in a row, with full jitter.
    pub(crate) fn backoff(&self, failures: u32, cap: Duration) -> Duration {
        rotation::backoff(failures, Duration::from_millis(500), cap, self.jitter())
    }

    /// Sleeps until `at`; at once when it has passed.
    pub(crate) async fn sleep_until(&self, at: proto_types::Timestamp) {
        // Wall time may jump while this waits, as it does on a machine that slept: what is over then must be noticed soon.
        loop {
            let left = at.since(self.clock.now());
            if left.is_zero() {
                return;
            }
            self.clock.sleep(left.min(LOOKS_EVERY)).await;
        }
    }
}
