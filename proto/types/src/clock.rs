//! The ports `Clock` and `Entropy`: the only two places in the house that read the time or the
//! operating system's randomness. Everything else takes them as arguments, so that tests own both.

use crate::time::Timestamp;
use std::{future::Future, pin::Pin, time::Duration};

/// A boxed future, the shape of every asynchronous port method.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Wall time for what is written down, monotonic waiting for what is scheduled.
pub trait Clock: Send + Sync {
    /// Wall-clock time, milliseconds precision.
    fn now(&self) -> Timestamp;
    /// Completes once `d` has passed on the monotonic clock.
    fn sleep(&self, d: Duration) -> Fut<'static, ()>;
}

/// Cryptographic randomness.
pub trait Entropy: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);

    /// A UUIDv7 whose time part is `now`.
    fn uuid_v7(&self, now: Timestamp) -> uuid::Uuid {
        let mut random = [0u8; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port that reads the time")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the port that waits")]
    fn sleep(&self, d: Duration) -> Fut<'static, ()> {
        Box::pin(tokio::time::sleep(d))
    }
}

/// The operating system's randomness, through the crypto library's seeded generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the port that reads randomness")]
    fn fill(&self, bytes: &mut [u8]) {
        // The generator fails only when the kernel has no entropy source at all; nothing can be issued then.
        aws_lc_rs::rand::fill(bytes).expect("the operating system provides randomness");
    }
}
