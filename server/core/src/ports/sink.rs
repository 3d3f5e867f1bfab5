//! The journal's ways out: sinks that take it record by record, and where each of them stands.
//!
//! A sink gets records in order and says when it has them; where it stands is kept outside of it. Delivery is at least
//! once: what a sink took and did not confirm comes again.

use super::{CommitError, ReadError};
use crate::journal::{Format, Hash, Seen};
use proto_types::{Fut, Position, Record};

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
    /// Each record's line.
    pub fn lines(&self, format: Format) -> impl Iterator<Item = String> {
        self.records.iter().map(move |out| {
            format.line(&Seen {
                store_id: &self.store_id,
                position: out.position,
                leaf: &out.leaf,
                record: &out.record,
            })
        })
    }
}

/// Why a sink did not take a batch. It is tried again; nothing is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
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

/// What the store remembers of sinks.
pub trait Outlets: Send + Sync {
    /// The next position that this sink wants; `None` for one that never took anything.
    fn cursor<'a>(&'a self, sink: &'a str) -> Fut<'a, Result<Option<Position>, ReadError>>;
    /// Remembers it. Only what a sink has confirmed is before `next`.
    fn keep_cursor<'a>(&'a self, sink: &'a str, next: Position) -> Fut<'a, Result<(), CommitError>>;
}
