//! Sinks: each follows the journal by position, on its own, and is tried again for ever.
//!
//! Decides what is handed over next, when it counts as taken, and how long to wait after a failure. Nothing here is on
//! the way of an issue: a sink that hangs holds up itself. Delivery is at least once: the cursor is
//! written down a little after the sink confirmed, never before.

use crate::{Service, ServiceError};
use proto_types::{Entropy, Position, Timestamp, format_duration};
use serde::Serialize;
use server_core::{
    journal,
    ports::{Batch, Outgoing, ReadError, Sink, SinkError, StoredRecord},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Records in one batch, at most.
const BATCH: u32 = 256;
/// Bytes of stored bodies and values in one batch, at most, when there is more than one record.
const BATCH_BYTES: usize = 1 << 20;
/// Records handed over before the cursor is written down while there are more.
const UNSAVED: u64 = 2048;
/// How long the cursor waits when there are none.
const SAVE: Duration = Duration::from_secs(1);
/// The first pause after a failure is at most this, each further one at most twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A sink as configured.
#[derive(Clone)]
pub struct Outlet {
    /// What its place in the journal is remembered by.
    pub name: String,
    pub kind: &'static str,
    /// How long one batch may take.
    pub timeout: Duration,
    pub sink: Arc<dyn Sink>,
}

/// How a sink is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkView {
    pub name: String,
    pub kind: &'static str,
    /// The next position it wants.
    pub next: u64,
    /// Records it has not taken yet.
    pub behind: u64,
    pub failing_since: Option<Timestamp>,
    pub last_error: Option<String>,
}

/// A sink's place and state, shared by who forwards and who looks.
pub(crate) struct Progress {
    name: String,
    kind: &'static str,
    next: AtomicU64,
    trouble: Mutex<Option<(Timestamp, String)>>,
}

impl Progress {
    fn set_trouble(&self, trouble: Option<(Timestamp, String)>) {
        let mut now = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *now = match (now.take(), trouble) {
            (Some((since, _)), Some((_, error))) => Some((since, error)),
            (_, trouble) => trouble,
        };
    }
    fn view(&self, size: u64) -> SinkView {
        let next = self.next.load(Ordering::Acquire);
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SinkView {
            name: self.name.clone(),
            kind: self.kind,
            next,
            behind: size.saturating_sub(next),
            failing_since: trouble.as_ref().map(|(since, _)| *since),
            last_error: trouble.map(|(_, error)| error),
        }
    }
}

/// Brings one sink what it has not taken yet.
pub struct Forwarder {
    service: Service,
    outlet: Outlet,
    progress: Arc<Progress>,
    /// The cursor as it is written down.
    saved: Option<u64>,
    /// What the server that brings it its records holds.
    duty: String,
}

impl Service {
    /// Finds each sink's place. A sink that was never seen begins with the oldest record that is kept.
    pub async fn attach_sinks(&self, outlets: Vec<Outlet>) -> Result<Vec<Forwarder>, ServiceError> {
        let store = &self.inner.ports.outlets;
        // A store that was put back to a backup may be shorter than what a sink has taken.
        let size = *self.inner.ports.feed.size().borrow();
        let start = self.inner.ports.archive.pruned().await?.size();
        let mut forwarders = Vec::new();
        for outlet in outlets {
            let saved = store.cursor(&outlet.name).await?.map(|p| p.0);
            if let Some(wanted) = saved.filter(|wanted| *wanted < start) {
                let sink = &outlet.name;
                tracing::warn!(sink, wanted, start, "records went, being old, while this sink was not configured");
            }
            let next = saved.unwrap_or(start).max(start).min(size);
            let progress = Arc::new(Progress {
                name: outlet.name.clone(),
                kind: outlet.kind,
                next: next.into(),
                trouble: Mutex::default(),
            });
            self.sinks().push(progress.clone());
            let duty = format!("sink {}", outlet.name);
            forwarders.push(Forwarder { service: self.clone(), outlet, progress, saved, duty });
        }
        Ok(forwarders)
    }

    fn sinks(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Progress>>> {
        self.inner.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How every sink is doing, in the order of the configuration.
    pub fn sink_views(&self) -> Vec<SinkView> {
        let size = *self.inner.ports.feed.size().borrow();
        self.sinks().iter().map(|progress| progress.view(size)).collect()
    }
}

/// What stood in the way of one batch.
enum Hindrance {
    Sink(SinkError),
    Read(String),
}

impl Forwarder {
    /// Follows the journal until `stop`; the cursor is written down at the end.
    pub async fn run(mut self, stop: CancellationToken) {
        let ports = self.service.ports().clone();
        let mut size = ports.feed.size();
        let mut tries = 0;
        let mut mine = false;
        loop {
            if !ports.duties.holds(&self.duty) {
                mine = false;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = ports.clock.sleep(SAVE) => self.follow_another().await,
                }
                continue;
            }
            // Where the server left off that had it before.
            if !mine {
                self.follow_another().await;
                mine = true;
            }
            let next = self.progress.next.load(Ordering::Acquire);
            if next >= *size.borrow_and_update() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    changed = size.changed() => if changed.is_err() { break },
                    () = ports.clock.sleep(SAVE), if self.saved != Some(next) => self.save().await,
                }
                continue;
            }
            let step = tokio::select! {
                () = stop.cancelled() => break,
                step = self.step(Position(next)) => step,
            };
            match step {
                Ok(taken) => {
                    tries = 0;
                    self.progress.set_trouble(None);
                    self.progress.next.store(next + taken, Ordering::Release);
                    if next + taken >= self.saved.unwrap_or(0) + UNSAVED {
                        self.save().await;
                    }
                }
                Err(hindrance) => {
                    self.note(hindrance, tries);
                    let pause = pause(ports.entropy.as_ref(), tries);
                    tries += 1;
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = ports.clock.sleep(pause) => {}
                    }
                }
            }
        }
        self.save().await;
    }

    /// Another server brings the sink its records: how far it is stands in the store.
    async fn follow_another(&mut self) {
        match self.service.ports().outlets.cursor(&self.outlet.name).await {
            Ok(Some(next)) => {
                self.progress.next.fetch_max(next.0, Ordering::AcqRel);
                self.saved = Some(next.0);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(sink = self.outlet.name, %error, "a sink's place could not be read"),
        }
    }

    /// Hands over the next batch; answers how many records it had.
    async fn step(&self, next: Position) -> Result<u64, Hindrance> {
        let ports = self.service.ports();
        let unreadable = |e: ReadError| Hindrance::Read(e.to_string());
        let stored = ports.archive.stored(next, BATCH).await.map_err(unreadable)?;
        let batch = self.batch(next, stored).map_err(Hindrance::Read)?;
        let limit = self.outlet.timeout;
        let delivered = tokio::select! {
            delivered = self.outlet.sink.deliver(&batch) => delivered,
            () = ports.clock.sleep(limit) => Err(SinkError::Timeout(format_duration(limit))),
        };
        delivered.map(|()| batch.records.len() as u64).map_err(Hindrance::Sink)
    }

    /// As many of the records as a batch may hold, from `next` on and without a gap.
    fn batch(&self, next: Position, stored: Vec<StoredRecord>) -> Result<Batch, String> {
        let mut records = Vec::new();
        let mut bytes = 0;
        for (expected, row) in (next.0..).zip(stored) {
            bytes += row.body.len() + row.private.iter().map(|(.., value)| value.len()).sum::<usize>();
            if !records.is_empty() && bytes > BATCH_BYTES {
                break;
            }
            if row.position.0 != expected {
                return Err(format!("the record at position {expected} is missing"));
            }
            let record = journal::decode(&row.body, &row.private)
                .map_err(|e| format!("the record at position {expected} cannot be read: {e}"))?;
            records.push(Outgoing { position: row.position, leaf: row.leaf, record });
        }
        match records.is_empty() {
            true => Err(format!("the record at position {} is missing", next.0)),
            false => Ok(Batch { store_id: self.service.meta().store_id.clone(), records }),
        }
    }

    fn note(&self, hindrance: Hindrance, tries: u32) {
        let sink = &self.outlet.name;
        let error = match hindrance {
            Hindrance::Sink(error) => error.to_string(),
            Hindrance::Read(why) => why,
        };
        // The first failure of a series is news; how long it lasts is in the metrics.
        if tries == 0 {
            tracing::warn!(sink, %error, "a sink did not take its records; trying again until it does");
        }
        self.progress.set_trouble(Some((self.service.now(), error)));
    }

    /// Writes the cursor down. When that fails the records come again after a restart.
    async fn save(&mut self) {
        let next = self.progress.next.load(Ordering::Acquire);
        if self.saved == Some(next) {
            return;
        }
        match self.service.ports().outlets.keep_cursor(&self.outlet.name, Position(next)).await {
            Ok(()) => self.saved = Some(next),
            Err(error) => tracing::warn!(sink = self.outlet.name, %error, "a sink's place could not be written down"),
        }
    }
}

/// Full jitter under a bound that doubles: sinks that failed together do not come back together.
fn pause(entropy: &dyn Entropy, tries: u32) -> Duration {
    let bound = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
    let mut random = [0; 8];
    entropy.fill(&mut random);
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(u64::from_be_bytes(random) % (millis + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(u8);
    impl Entropy for Bytes {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn pauses_grow_to_a_minute_and_may_be_any_shorter_one() {
        for tries in [0, 1, 7, 8, 40, u32::MAX] {
            let bound = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
            assert_eq!(pause(&Bytes(0), tries), Duration::ZERO);
            assert!((1..=255).all(|b| pause(&Bytes(b), tries) <= bound));
        }
        let longest = (0..=255).map(|b| pause(&Bytes(b), 40)).max().unwrap();
        assert!(longest > LONGEST_PAUSE / 2 && longest <= LONGEST_PAUSE);
    }
}
