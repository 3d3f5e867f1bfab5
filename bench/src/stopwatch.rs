//! Time as a benchmark needs it: read here and nowhere else in this crate.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// How long a load runs before it counts, and while it counts.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub warm_up: Duration,
    pub measured: Duration,
}

impl Span {
    pub const fn millis(warm_up: u64, measured: u64) -> Self {
        Self { warm_up: Duration::from_millis(warm_up), measured: Duration::from_millis(measured) }
    }
}

/// Completes at `at`; at once when it has passed.
pub async fn until(at: Instant) {
    let left = at.saturating_duration_since(now());
    if !left.is_zero() {
        proto_types::Clock::sleep(&proto_types::SystemClock, left).await;
    }
}
