//! The newest records in memory, and the number that tells followers there are more.

use proto_types::{Position, Record, Timestamp};
use server_core::journal::{PrivateField, PrivateValue};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// Records kept in memory: a follower that keeps up never reads the disk.
pub const RING: usize = 4096;
/// Most records in one answer.
pub const PAGE: u32 = 4096;

/// What the writer tells everyone else.
pub struct Shared {
    ring: RwLock<Ring>,
    size: watch::Sender<u64>,
    /// The position of the oldest record that is kept.
    start: AtomicU64,
    high_water: AtomicI64,
    dead: watch::Sender<Option<String>>,
    /// Why nothing can be written now; it may pass.
    trouble: Mutex<Option<String>>,
}

struct Ring {
    /// Position of the oldest record held.
    start: u64,
    records: VecDeque<Arc<Record>>,
}

impl Shared {
    pub fn new(start: u64, size: u64, high_water: Timestamp) -> Self {
        Self {
            ring: RwLock::new(Ring { start: size, records: VecDeque::with_capacity(RING) }),
            size: watch::Sender::new(size),
            start: AtomicU64::new(start),
            high_water: AtomicI64::new(high_water.as_millis()),
            dead: watch::Sender::new(None),
            trouble: Mutex::default(),
        }
    }

    pub fn publish(&self, records: Vec<Arc<Record>>, size: u64, high_water: Timestamp) {
        if records.is_empty() {
            return;
        }
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.records.extend(records);
            while ring.records.len() > RING {
                ring.records.pop_front();
                ring.start += 1;
            }
        }
        self.high_water.store(high_water.as_millis(), Ordering::Release);
        self.size.send_replace(size);
    }

    /// Tells followers that there are so many records, of which none is in memory.
    pub fn skip_to(&self, start: u64, size: u64, high_water: Timestamp) {
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.records.clear();
            ring.start = size;
        }
        self.start.store(start, Ordering::Release);
        self.high_water.store(high_water.as_millis(), Ordering::Release);
        self.size.send_replace(size);
    }

    /// Erases values from the records in memory: what was redacted is not told from there either.
    pub fn forget(&self, values: &[PrivateValue]) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        for value in values {
            let at = value.position.0.checked_sub(ring.start).and_then(|n| usize::try_from(n).ok());
            if let Some(record) = at.and_then(|n| ring.records.get_mut(n)) {
                let record = Arc::make_mut(record);
                match value.field {
                    PrivateField::User => record.user = None,
                    PrivateField::Intent => record.intent = None,
                }
            }
        }
    }

    /// Lets the records in memory go that are no longer kept.
    pub fn begin_at(&self, start: u64) {
        self.start.store(start, Ordering::Release);
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        while ring.start < start && ring.records.pop_front().is_some() {
            ring.start += 1;
        }
    }

    pub fn size(&self) -> u64 {
        *self.size.borrow()
    }
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }
    pub fn high_water(&self) -> Timestamp {
        Timestamp::from_millis(self.high_water.load(Ordering::Acquire))
    }
    /// Why nothing is written any more.
    pub fn dead(&self) -> Option<String> {
        self.dead.borrow().clone()
    }
    /// Completes with that reason when there is one.
    pub async fn died(&self) -> String {
        let mut dead = self.dead.subscribe();
        let why = dead.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }
    pub fn die(&self, why: String) {
        // The first reason is the one that counts.
        self.dead.send_if_modified(|dead| dead.is_none() && dead.replace(why).is_none());
    }

    /// Why nothing can be written now, when that is known.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub fn note_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// From memory; `None` when `from` is older than what is held.
    pub fn recent(&self, from: Position, max: u32) -> Option<Vec<(Position, Arc<Record>)>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.0.checked_sub(ring.start)?).ok()?;
        let found = ring.records.iter().skip(skip).take(max as usize).cloned();
        Some(found.enumerate().map(|(i, record)| (Position(from.0 + i as u64), record)).collect())
    }
}
