//! The writer: one thread, one connection, groups of units.
//!
//! Decides the order of everything: position = commit order. It takes every unit that waits the moment the last sync
//! returns and never lingers for more. A unit that loses a guard costs itself only; an error of the disk costs the
//! group, and after one that leaves doubt nothing is committed any more.

use super::{
    error::{Fault, fault},
    guard,
    write::{WriteError, apply},
};
use crate::{
    rows::int,
    shared::Shared,
    unit::{GROUP, Put, Unit, answer_all, issues},
};
use proto_types::{Position, Timestamp};
use rusqlite::{Connection, params};
use server_core::{
    clock,
    journal::Encoded,
    ports::{CommitError, Durable, Guard},
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Housekeeping that needs the write connection.
pub type Chore = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

pub enum Job {
    Unit(Unit),
    Chore(Chore, oneshot::Sender<Result<(), CommitError>>),
}

pub struct Writer {
    pub conn: Connection,
    pub shared: Arc<Shared>,
    pub size: u64,
    pub high_water: Timestamp,
}

impl Writer {
    /// Runs until every sender is gone, then closes the store.
    pub fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while let Some(first) = jobs.blocking_recv() {
            let mut next = Some(first);
            let mut chore = None;
            while let Some(job) = next {
                match job {
                    Job::Unit(unit) => group.push(unit),
                    Job::Chore(run, reply) => {
                        chore = Some((run, reply));
                        break;
                    }
                }
                next = if group.len() < GROUP { jobs.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.group(std::mem::take(&mut group));
            }
            if let Some((run, reply)) = chore {
                let _ = reply.send(self.chore(run));
            }
        }
        self.close();
    }

    /// A clean end says so in the file and folds the log into it. When that cannot be said the log stays: it holds
    /// what was acknowledged.
    fn close(self) {
        let mark = || match self.shared.dead() {
            Some(why) => Err(why),
            None => self.conn.execute("UPDATE meta SET in_use = 0", []).map_err(|e| e.to_string()),
        };
        if let Err(why) = mark() {
            tracing::warn!(%why, "the store is left as it is; its log is read at the next start");
            if let Err(e) = super::open::keep_log(&self.conn, true) {
                tracing::error!(error = %e, "the store's log could not be kept apart");
            }
        }
        if let Err((_, e)) = self.conn.close() {
            tracing::warn!(error = %e, "the store did not close cleanly");
        }
    }

    fn chore(&mut self, run: Chore) -> Result<(), CommitError> {
        self.alive()?;
        run(&self.conn).map_err(|e| {
            self.rollback();
            self.judge(fault(&e)).into()
        })
    }

    fn alive(&self) -> Result<(), CommitError> {
        self.shared.dead().map_or(Ok(()), |why| Err(CommitError::Unavailable(why)))
    }

    /// Remembers a fault after which the file cannot be believed.
    fn judge(&self, fault: Fault) -> Fault {
        if let Fault::Fatal(why) = &fault {
            tracing::error!(%why, "the store is no longer usable; nothing more will be written");
            self.shared.die(why.clone());
        }
        fault
    }

    fn rollback(&self) {
        if !self.conn.is_autocommit()
            && let Err(e) = self.conn.execute_batch("ROLLBACK")
        {
            self.shared.die(e.to_string());
        }
    }

    fn group(&mut self, units: Vec<Unit>) {
        if let Err(dead) = self.alive() {
            return answer_all(units, &dead);
        }
        match self.transaction(&units) {
            Ok(group) => self.publish(units, group),
            Err(error) => {
                self.rollback();
                answer_all(units, &error);
            }
        }
    }

    fn transaction(&self, units: &[Unit]) -> Result<Group, CommitError> {
        let mut group =
            Group { size: self.size, high_water: self.high_water, outcomes: Vec::with_capacity(units.len()) };
        let before = |e: rusqlite::Error| CommitError::from(self.judge(fault(&e)));
        self.statement("BEGIN IMMEDIATE").map_err(before)?;
        for unit in units {
            let outcome = self.unit(unit, &mut group).map_err(before)?;
            group.outcomes.push(outcome);
        }
        if group.size == self.size {
            self.statement("ROLLBACK").map_err(before)?;
            return Ok(group);
        }
        self.conn
            .prepare_cached("UPDATE journal_head SET size = ?1, clock_high_water = ?2")
            .and_then(|mut s| s.execute(params![int(group.size), group.high_water.as_millis()]))
            .map_err(before)?;
        self.statement("COMMIT").map_err(|e| match (self.judge(fault(&e)), e.sqlite_error_code()) {
            // The log may hold the whole group although its sync was not confirmed: nobody can say.
            (Fault::Fatal(_), _) | (Fault::Full, Some(rusqlite::ErrorCode::SystemIoFailure)) => CommitError::Unknown,
            (fault, _) => fault.into(),
        })?;
        Ok(group)
    }

    /// One unit, in a savepoint when there is anything that could be half done. The outer error costs the group.
    fn unit(&self, unit: &Unit, group: &mut Group) -> rusqlite::Result<Result<Position, CommitError>> {
        let mut issued = unit.records.iter().filter(|(record, _)| issues(&record.kind));
        if let Err(doubt) = issued.try_for_each(|(record, _)| clock::judge(record.time, group.high_water)) {
            return Ok(Err(CommitError::Unavailable(doubt.to_string())));
        }
        let nested = !unit.guards.is_empty() || !unit.writes.is_empty();
        if nested {
            self.statement("SAVEPOINT unit")?;
        }
        let refused = match self.state(unit) {
            Ok(()) => None,
            Err(Refusal::Lost(guard)) => Some(CommitError::Lost(guard)),
            Err(Refusal::Write(WriteError::Refused(fault))) => Some(fault.into()),
            Err(Refusal::Write(WriteError::Sql(e))) => match fault(&e) {
                contradiction @ Fault::Contradiction(_) => Some(contradiction.into()),
                _ => return Err(e),
            },
        };
        if let Some(error) = refused {
            self.statement("ROLLBACK TO unit")?;
            self.statement("RELEASE unit")?;
            return Ok(Err(error));
        }
        let first = Position(group.size);
        for (record, encoded) in &unit.records {
            self.record(group.size, record.time, encoded)?;
            group.size += 1;
            group.high_water = clock::newest(group.high_water, record.time);
        }
        if nested {
            self.statement("RELEASE unit")?;
        }
        Ok(Ok(first))
    }

    fn state(&self, unit: &Unit) -> Result<(), Refusal> {
        let now = unit.records.first().map(|(record, _)| record.time).unwrap_or_default();
        for guard in &unit.guards {
            if !guard::holds(&self.conn, guard, now).map_err(WriteError::Sql)? {
                return Err(Refusal::Lost(guard.clone()));
            }
        }
        unit.writes.iter().try_for_each(|put| apply(put, &self.conn)).map_err(Refusal::Write)
    }

    fn record(&self, position: u64, time: Timestamp, encoded: &Encoded) -> rusqlite::Result<()> {
        let position = int(position);
        self.conn.prepare_cached("INSERT INTO journal VALUES(?1, ?2, ?3, ?4)")?.execute(params![
            position,
            time.as_millis(),
            encoded.leaf,
            encoded.body
        ])?;
        let mut keyed = self.conn.prepare_cached("INSERT INTO journal_key VALUES(?1, ?2)")?;
        for key in &encoded.keys {
            keyed.execute(params![key, position])?;
        }
        for (field, salt, value) in &encoded.private {
            self.conn
                .prepare_cached("INSERT INTO journal_private VALUES(?1, ?2, ?3, ?4)")?
                .execute(params![position, field, salt, value])?;
        }
        Ok(())
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// Followers first, then those who wait: who hears that a unit is durable finds it in the feed.
    fn publish(&mut self, units: Vec<Unit>, group: Group) {
        self.size = group.size;
        self.high_water = group.high_water;
        let done = units.into_iter().zip(group.outcomes);
        let (mut records, mut answers, mut redacted, mut start) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (unit, outcome) in done {
            let answer = outcome.map(|first| {
                redacted.extend(unit.writes.iter().filter_map(Put::redacts));
                start = start.max(unit.writes.iter().filter_map(Put::prunes).max());
                let leaves = unit.records.iter().map(|(_, encoded)| encoded.leaf).collect();
                records.extend(unit.records.into_iter().map(|(record, _)| record));
                Durable::assertion(first, leaves)
            });
            answers.push((unit.reply, answer));
        }
        self.shared.publish(records, self.size, self.high_water);
        if !redacted.is_empty() {
            self.shared.forget(&redacted);
        }
        if let Some(start) = start {
            self.shared.begin_at(start);
        }
        for (reply, answer) in answers {
            // Who no longer waits has gone away; the unit is durable all the same.
            let _ = reply.send(answer);
        }
    }
}

/// What a transaction came to, valid once it is committed.
struct Group {
    size: u64,
    high_water: Timestamp,
    outcomes: Vec<Result<Position, CommitError>>,
}

enum Refusal {
    Lost(Guard),
    Write(WriteError),
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}
