//! The journal's ways out: sinks that take it record by record, and what is remembered of them and of what was pruned.
//!
//! A sink gets records in order and says when it has them; where it stands is kept outside of it. Delivery is at least
//! once: what a sink took and did not confirm comes again.

use super::{CommitError, ReadError};
use crate::journal::{Format, Hash, Seen};
use proto_types::{Fut, Position, Record, Timestamp};

/// One record on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub position: Position,
    pub leaf: Hash,
    pub record: Record,
}

/// Consecutive records of one journal; never empty.
#[derive(Clone, Debug)]
pub struct Batch {
    pub store_id: String,
    pub records: Vec<Outgoing>,
}

impl Batch {
    /// Each record with its line, at most `max` bytes where the format allows it.
    pub fn lines(&self, format: Format, max: usize) -> impl Iterator<Item = (&Outgoing, String)> {
        self.records.iter().map(move |out| {
            let seen = Seen { store_id: &self.store_id, position: out.position, leaf: &out.leaf, record: &out.record };
            (out, format.line_within(&seen, max))
        })
    }
}

/// Why a sink did not take a batch. It is tried again; nothing is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    #[error("{at} cannot be reached: {why}")]
    Unreachable { at: String, why: String },
    #[error("{at} does not take it: {why}")]
    Refused { at: String, why: String },
    #[error("{at} has not come back from what it was given before")]
    Busy { at: String },
    #[error("no answer within {0}")]
    Timeout(String),
}

/// A place outside that takes the journal. Dropping a delivery gives it up: the sink must be usable afterwards.
pub trait Sink: Send + Sync {
    /// Hands over the batch; `Ok` when every record is where the sink brings it.
    fn deliver<'a>(&'a self, batch: &'a Batch) -> Fut<'a, Result<(), SinkError>>;
}

/// What the store remembers of sinks and of pruning.
pub trait Outlets: Send + Sync {
    /// The next position that this sink wants; `None` for one that never took anything.
    fn cursor<'a>(&'a self, sink: &'a str) -> Fut<'a, Result<Option<Position>, ReadError>>;
    /// Remembers it. Only what a sink has confirmed is before `next`.
    fn keep_cursor<'a>(&'a self, sink: &'a str, next: Position) -> Fut<'a, Result<(), CommitError>>;
    /// Records before this position have no contents any more, only leaves.
    fn pruned(&self) -> Fut<'_, Result<Position, ReadError>>;
    /// Of the `most` records from `from` on: the position of the first that is not older than `time`, or the position
    /// behind the last of them.
    fn first_since(&self, from: Position, most: u32, time: Timestamp) -> Fut<'_, Result<Position, ReadError>>;
}
