//! When to renew and how long to wait after a failure. Pure arithmetic; the caller brings time and randomness.

use proto_types::Timestamp;
use std::time::Duration;

/// How far a renewal may lie from the half-life, in parts of the half-life.
const SPREAD: f64 = 0.1;

/// When to renew what is valid from `not_before` to `not_after`: at half of its life, moved by up to ±10 % of that half,
/// so that a fleet that started together does not renew together. `jitter` is in `[0, 1)`; what lies outside is clamped.
/// What is already over, or was never valid, is due at `not_before`.
pub fn due(not_before: Timestamp, not_after: Timestamp, jitter: f64) -> Timestamp {
    let half = not_after.since(not_before) / 2;
    not_before.plus(half.mul_f64(1.0 + SPREAD * (2.0 * unit(jitter) - 1.0)))
}

/// The wait before attempt `failures + 1`: uniform between 0 and `base · 2^(failures-1)`, at most `cap` (full jitter).
/// No failure, no wait.
pub fn backoff(failures: u32, base: Duration, cap: Duration, jitter: f64) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let factor = 1u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(cap).mul_f64(unit(jitter))
}

/// `jitter` as a number in `[0, 1]`; not-a-number counts as the middle.
fn unit(jitter: f64) -> f64 {
    if jitter.is_nan() { 0.5 } else { jitter.clamp(0.0, 1.0) }
}

/// A number in `[0, 1)` from eight random bytes.
pub fn jitter(random: [u8; 8]) -> f64 {
    // 53 bits are what an f64 holds exactly.
    (u64::from_le_bytes(random) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_hour_is_renewed_between_27_and_33_minutes() {
        let (from, to) = (Timestamp::from_secs(0), Timestamp::from_secs(3600));
        assert_eq!(due(from, to, 0.0).as_secs(), 27 * 60);
        assert_eq!(due(from, to, 0.5).as_secs(), 30 * 60);
        assert!(due(from, to, 0.999_999).as_secs() < 33 * 60);
        assert_eq!(due(to, from, 0.7), to, "what ends before it begins is due at once");
        assert_eq!(due(from, to, f64::NAN).as_secs(), 30 * 60);
    }

    #[test]
    fn the_wait_grows_to_its_cap_and_never_beyond() {
        let wait = |n| backoff(n, Duration::from_millis(500), 4 * MINUTE, 1.0);
        assert_eq!(wait(0), Duration::ZERO);
        assert_eq!(wait(1), Duration::from_millis(500));
        assert_eq!(wait(4), Duration::from_secs(4));
        assert_eq!(wait(40), 4 * MINUTE);
        assert_eq!(wait(u32::MAX), 4 * MINUTE);
        assert_eq!(backoff(9, Duration::from_millis(500), 4 * MINUTE, 0.0), Duration::ZERO);
    }

    #[test]
    fn random_bytes_become_a_number_below_one() {
        assert_eq!(jitter([0; 8]), 0.0);
        assert!(jitter([0xff; 8]) < 1.0);
    }
}
