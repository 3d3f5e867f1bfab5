//! The one place in tests that waits: for a condition, with a deadline, in small steps.

use std::{future::Future, time::Duration};

const STEP: Duration = Duration::from_millis(10);

/// Waits until `condition` is true. Panics with `what` when it is not within `limit`.
pub async fn until<C, F>(what: &str, limit: Duration, condition: C)
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    assert!(holds_within(limit, condition).await, "not within {limit:?}: {what}");
}

/// Whether `condition` becomes true within `limit`.
pub async fn holds_within<C, F>(limit: Duration, mut condition: C) -> bool
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    let wait = async {
        while !condition().await {
            step().await;
        }
    };
    tokio::time::timeout(limit, wait).await.is_ok()
}

#[expect(clippy::disallowed_methods, reason = "tests of real components wait in real time, here and nowhere else")]
async fn step() {
    tokio::time::sleep(STEP).await;
}
