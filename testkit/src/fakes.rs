//! The two ports every test owns: a clock that stands until it is moved, and randomness that repeats.

use proto_types::{Clock, Entropy, Fut, Timestamp};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// A clock that tests move. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct FakeClock {
    wall: Arc<AtomicI64>,
    /// Time that has passed since the clock was made; only ever grows.
    passed: watch::Sender<Duration>,
}

impl FakeClock {
    pub fn at(now: Timestamp) -> Self {
        Self { wall: Arc::new(AtomicI64::new(now.as_millis())), passed: watch::Sender::new(Duration::ZERO) }
    }
    /// Lets time pass: the wall clock moves, and sleeps that are due complete.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.passed.send_modify(|passed| *passed += by);
    }
    /// Sets the wall clock, forward or back: no time passes, no sleep completes.
    pub fn set(&self, now: Timestamp) {
        self.wall.store(now.as_millis(), Ordering::SeqCst);
    }
    /// Sleeps that have not completed. A test waits for them before it lets time pass.
    pub fn sleepers(&self) -> usize {
        self.passed.receiver_count()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }
    fn sleep(&self, d: Duration) -> Fut<'static, ()> {
        let mut passed = self.passed.subscribe();
        let due = *passed.borrow() + d;
        Box::pin(async move {
            // A clock that is gone never moves again, so its sleeps never end.
            if passed.wait_for(|passed| *passed >= due).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Randomness from a seed: the same in every run.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<ChaCha20Rng>);

impl SeededEntropy {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha20Rng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn done(sleep: &mut Fut<'static, ()>) -> bool {
        sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn a_sleep_ends_when_its_time_has_passed_and_not_when_the_wall_clock_is_set() {
        let clock = FakeClock::at(Timestamp::from_secs(100));
        let mut sleep = clock.sleep(Duration::from_secs(10));
        assert_eq!(clock.sleepers(), 1);
        clock.set(Timestamp::from_secs(1000));
        clock.advance(Duration::from_secs(9));
        assert!(!done(&mut sleep));
        clock.advance(Duration::from_secs(1));
        assert!(done(&mut sleep));
        drop(sleep);
        assert_eq!((clock.now(), clock.sleepers()), (Timestamp::from_secs(1010), 0));
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let draw = |seed| {
            let (entropy, mut bytes) = (SeededEntropy::new(seed), [0; 16]);
            entropy.fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
