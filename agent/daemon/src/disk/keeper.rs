//! Looks at the data directory again and again: what is owed to it is written once it can be, and what somebody changed
//! under the agent (an older copy that was put in its place) is written again.
//!
//! Decides what is said of it. That nothing new is taken meanwhile is [`Shared::takes_new`]'s.

use super::{DataDir, DiskError};
use crate::shared::Shared;
use std::{sync::Arc, time::Duration};

/// How often.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the directory until the agent stops.
pub async fn run(shared: Arc<Shared>) {
    let mut known: Option<String> = None;
    loop {
        shared.ports.clock.sleep(EVERY).await;
        let found = look(&shared).await.err().map(|e| e.to_string());
        match (&known, &found) {
            (before, Some(now)) if before.as_ref() != Some(now) => {
                tracing::error!(error = %now, "the data directory is not usable; nothing new is taken, what is held is served to its end");
            }
            (Some(_), None) => tracing::info!("the data directory is usable again"),
            _ => {}
        }
        known = found;
    }
}

/// That the directory is as it is to be, after whatever could be done for it.
pub async fn look(shared: &Shared) -> Result<(), DiskError> {
    let changed = shared.on_disk(DataDir::mend).await?;
    if !changed.is_empty() {
        tracing::warn!(files = %changed.join(", "), "somebody changed files of the data directory; they are again what this agent wrote");
    }
    Ok(())
}
