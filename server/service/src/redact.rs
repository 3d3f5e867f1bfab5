//! Erasing people's names and words from the journal and from what was made of it.
//!
//! Decides which copies of a value go with it: the row of a task that is over. What is still in use is not erased: a
//! task that runs and a hold that stands decide by these values. Exports, sinks' outputs and backups made before keep
//! theirs: they are no longer in this server's hands.

use crate::{Service, ServiceError};
use proto_types::{HoldId, Position, Record, Task, TaskId};
use server_core::{
    journal::{self, PrivateField, PrivateValue, redaction},
    ports::{Commit, Guard, StoredRecord, Write},
};
use std::collections::BTreeMap;

/// Most positions in one redaction: one commit, and one record that names them all.
pub const MAX_POSITIONS: usize = 500;
/// Longest reason, bytes.
const MAX_REASON: usize = 1024;

/// What was erased, and where the journal says so.
#[derive(Debug)]
pub struct Redaction {
    pub values: Vec<PrivateValue>,
    pub record: Position,
}

impl Service {
    /// Erases the asked fields beside these records, all or none. A record that holds none of them is an error: an
    /// operator who mistyped a position must hear of it.
    pub async fn redact(
        &self,
        positions: &[u64],
        fields: &[PrivateField],
        reason: &str,
        operator: Option<String>,
    ) -> Result<Redaction, ServiceError> {
        bounds(positions, fields, reason)?;
        // One at a time: each writes back the whole row of a task, and must not write back what another erased.
        let _alone = self.inner.redacting.lock().await;
        // What was committed a moment ago counts: a hold that is not in memory yet stands all the same.
        self.follow_all().await;
        let (mut values, mut tasks) = (Vec::new(), BTreeMap::<TaskId, Vec<PrivateField>>::new());
        for position in positions {
            let stored = self.stored_at(Position(*position)).await?;
            let found: Vec<_> = fields.iter().copied().filter(|f| stands(&stored, *f)).collect();
            if found.is_empty() {
                return Err(ServiceError::Invalid(format!(
                    "the record at position {position} holds none of the values asked for: it was redacted before, or \
                     never had one; see `errand journal show {position}`"
                )));
            }
            let record = journal::decode(&stored.body, &stored.private)
                .map_err(|e| ServiceError::Unavailable(format!("the record at position {position}: {e}")))?;
            self.not_held_by(&record)?;
            if let Some(id) = record.task_id {
                tasks.entry(id).or_default().extend(found.iter().copied());
            }
            values.extend(found.into_iter().map(|field| PrivateValue { position: stored.position, field }));
        }
        let mut unit = Commit::of(redaction(&values, reason, operator, self.now()));
        for value in &values {
            unit = unit.when(Guard::Private(*value)).put(Write::Redact(*value));
        }
        for (id, fields) in tasks {
            match self.inner.ports.archive.task(id).await? {
                Some(task) if task.is_live() => {
                    return Err(in_use(&format!("the task {id}, which is not over"), &format!("task revoke {id}")));
                }
                // It is over: nobody but a redaction writes this row any more.
                Some(task) => unit = unit.put(Write::Task(without(task, &fields))),
                None => {}
            }
        }
        let durable = self.commit_and_follow(unit).await?;
        Ok(Redaction { values, record: durable.first() })
    }

    async fn stored_at(&self, position: Position) -> Result<StoredRecord, ServiceError> {
        let found = self.inner.ports.archive.stored(position, 1).await?;
        let found = found.into_iter().find(|r| r.position == position);
        found.ok_or_else(|| ServiceError::not_found("record", position.0))
    }

    /// A hold that stands decides by the user it names.
    fn not_held_by(&self, record: &Record) -> Result<(), ServiceError> {
        let hold = record.detail.pointer("/hold/id").and_then(|id| id.as_str()?.parse::<HoldId>().ok());
        match hold.filter(|id| self.read(|s| s.holds.get(*id).is_some())) {
            Some(id) => Err(in_use(&format!("the hold {id}, which stands"), &format!("hold release {id}"))),
            None => Ok(()),
        }
    }
}

fn in_use(by: &str, verb: &str) -> ServiceError {
    ServiceError::Conflict(format!(
        "nothing was redacted: a record belongs to {by}, and its values are still in use; run `errand {verb}` first"
    ))
}

fn bounds(positions: &[u64], fields: &[PrivateField], reason: &str) -> Result<(), ServiceError> {
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let wrong = match () {
        () if positions.is_empty() || positions.len() > MAX_POSITIONS => {
            format!("a redaction names 1 to {MAX_POSITIONS} positions")
        }
        () if sorted.len() != positions.len() => "a redaction names each position once".into(),
        () if fields.is_empty() => "a redaction names `user`, `intent` or both".into(),
        () if reason.trim().is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) => {
            format!("a redaction has a reason: one line of at most {MAX_REASON} bytes")
        }
        () => return Ok(()),
    };
    Err(ServiceError::Invalid(wrong))
}

fn stands(stored: &StoredRecord, field: PrivateField) -> bool {
    stored.private.iter().any(|(name, ..)| name == field.as_str())
}

/// The task as it is kept once these values are gone.
fn without(mut task: Task, fields: &[PrivateField]) -> Task {
    if fields.contains(&PrivateField::User) {
        task.user = None;
    }
    if fields.contains(&PrivateField::Intent) {
        task.intent.clear();
    }
    task
}
