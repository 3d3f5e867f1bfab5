//! When what was seen of the journal is written down on this server's own disk: each second at most, beside the writer.

use super::seen::{Memory, Seen};
use proto_types::Timestamp;
use server_core::{journal::Hash, ports::StoreMeta};
use std::time::Duration;
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_secs(1);

/// What was written down, and what is being.
pub struct Remembered {
    memory: Option<Memory>,
    meta: StoreMeta,
    size: u64,
    at: Timestamp,
    writing: Option<JoinHandle<()>>,
}

impl Remembered {
    pub fn new(memory: Option<Memory>, meta: StoreMeta) -> Self {
        Self { memory, meta, size: 0, at: Timestamp::from_millis(0), writing: None }
    }

    /// The journal has come so far. Nobody waits for the disk.
    pub fn note(&mut self, now: Timestamp, size: u64, leaf: Option<Hash>) {
        let busy = self.writing.as_ref().is_some_and(|w| !w.is_finished());
        // A clock that was set back is no reason to forget.
        let soon = now >= self.at && now.since(self.at) < EVERY;
        if size != self.size && !busy && !soon {
            self.at = now;
            self.write(size, leaf);
        }
    }

    /// The same at the end, and that it is on disk.
    pub async fn note_last(&mut self, size: u64, leaf: Option<Hash>) {
        if let Some(writing) = self.writing.take() {
            // What failed said so.
            let _ = writing.await;
        }
        if size != self.size {
            self.write(size, leaf);
        }
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
    }

    fn write(&mut self, size: u64, leaf: Option<Hash>) {
        let (Some(memory), Some(leaf)) = (self.memory.clone(), leaf) else { return };
        self.size = size;
        let seen = Seen::new(&self.meta, size, leaf);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = memory.keep(&seen) {
                tracing::warn!(%error, "what was seen of the journal could not be written down here; it is tried again");
            }
        }));
    }
}
