//! The writer: one task, one connection, groups of units; beside it any number of others, in other servers.
//!
//! Decides the order of everything: position = commit order. Each transaction locks the head of the journal first, so
//! one group at a time is written over all servers, no guard reads what another is about to change, and nothing can
//! deadlock. What others wrote meanwhile is read before what is written here is published: followers never see a gap.
//! A unit that loses a guard costs itself only; an error of the database costs the group.

use super::{
    connect::Connector,
    error::{Fault, fault},
    feed, guard,
    remember::Remembered,
    write::{WriteError, apply},
};
use crate::{
    compare::Kept,
    rows::int,
    shared::{PAGE, RING, Shared},
    unit::{GROUP, Put, Unit, answer_all, issues},
};
use proto_types::{Clock, Position, Timestamp};
use server_core::{
    clock,
    journal::{Hash, pruned_before, redacted},
    ports::{CommitError, Durable, Guard},
};
use sqlx::{Connection as _, Error, PgConnection, Row as _, postgres::PgRow};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};

/// How often the head is looked at when nothing was heard of it.
const LOOK: Duration = Duration::from_secs(1);
/// The longest a look and one page of records may take: a connection that died without a word is found out by that.
const LOOKED: Duration = Duration::from_secs(2);
const READ: Duration = Duration::from_secs(15);
/// A commit that takes so long is said to be slow.
const SLOW: Duration = Duration::from_secs(3);
/// How often, and how far apart, it is asked what became of a commit that was not answered.
const SETTLE: (u32, Duration) = (20, Duration::from_millis(500));
/// The longest one such question may take: the head may be locked by a group that goes on.
const SETTLED: Duration = Duration::from_secs(12);
/// How often a group lets others run before it goes without them.
const TURNS: usize = 16;
/// The longest a transaction may take before its commit, and the longest a commit is waited for.
const PREPARED: Duration = Duration::from_secs(30);
const COMMITTED: Duration = Duration::from_secs(30);

/// The channel on which a commit is announced.
pub const CHANNEL: &str = "errand_journal";

pub struct Writer {
    pub connector: Arc<Connector>,
    pub conn: Option<PgConnection>,
    /// The session of the newest connection that commits, as the database tells it from every other.
    pub session: Option<Session>,
    pub shared: Arc<Shared>,
    pub clock: Arc<dyn Clock>,
    /// The leaf of the last record that followers were told of: a database that holds another one there is not the same.
    pub last: Option<Hash>,
    pub remembered: Remembered,
}

/// The first unit of those that are about to come, when the last group says that there are. A group reads what others
/// committed before it, so that nobody has to look.
async fn soon(jobs: &mut mpsc::Receiver<Unit>, last: usize) -> Option<Unit> {
    for _ in 0..if last > 1 { TURNS } else { 1 } {
        if let Ok(first) = jobs.try_recv() {
            return Some(first);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// A group that begins with this unit. Those that were answered together come back together: the first of them gives the
/// others as many as there were a turn, so that they do not wait for a group of one.
async fn gather(first: Unit, jobs: &mut mpsc::Receiver<Unit>, last: usize) -> Vec<Unit> {
    let mut group = vec![first];
    for _ in 0..=TURNS {
        while group.len() < GROUP
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        if group.len() >= last {
            break;
        }
        tokio::task::yield_now().await;
    }
    group
}

/// A session of the database: its process, and when that began.
pub type Session = (i32, String);

/// What a transaction came to, valid once it is committed.
struct Group {
    /// The journal before the group.
    before: Head,
    size: u64,
    high_water: Timestamp,
    outcomes: Vec<Result<Position, CommitError>>,
}

impl Group {
    fn after(before: Head) -> Self {
        Self { before, size: before.size, high_water: before.high_water, outcomes: Vec::new() }
    }

    /// The records of a unit come next.
    fn take(&mut self, unit: &Unit) -> Position {
        let first = Position(self.size);
        for (record, _) in &unit.records {
            self.size += 1;
            self.high_water = clock::newest(self.high_water, record.time);
        }
        first
    }

    /// It stands behind that head, and not where it was thought to.
    fn move_to(&mut self, head: Head) {
        let by = head.size.saturating_sub(self.before.size);
        self.size += by;
        self.outcomes.iter_mut().flatten().for_each(|first| first.0 += by);
        self.high_water = clock::newest(self.high_water, head.high_water);
        self.before = head;
    }
}

/// Between which times the newest record must have been written for those of a group to be believed.
struct Believed {
    from: Timestamp,
    to: Timestamp,
}

impl Believed {
    /// They were judged one by one.
    const ANY: Self = Self { from: Timestamp::from_millis(i64::MIN), to: Timestamp::from_millis(i64::MAX) };
}

/// Why there is no group.
enum Stop {
    /// Nothing was written.
    Before(CommitError),
    /// The end of the transaction was not heard of. When it is there, then where it says or later.
    Unheard(Group),
}

#[derive(Clone, Copy)]
struct Head {
    size: u64,
    high_water: Timestamp,
    /// The position of the oldest record that is kept.
    start: u64,
}

impl Writer {
    /// Runs until every sender is gone.
    pub async fn run(mut self, mut jobs: mpsc::Receiver<Unit>, announced: Arc<Notify>) {
        let mut last = 1;
        loop {
            let first = tokio::select! {
                biased;
                unit = jobs.recv() => match unit {
                    Some(first) => Some(first),
                    None => break,
                },
                () = announced.notified() => soon(&mut jobs, last).await,
                () = self.clock.sleep(LOOK) => None,
            };
            match first {
                Some(first) => {
                    let group = gather(first, &mut jobs, last).await;
                    last = group.len();
                    self.group(group).await;
                }
                None => self.look().await,
            }
            self.remembered.note(self.clock.now(), self.shared.size(), self.last);
        }
        self.remembered.note_last(self.shared.size(), self.last).await;
    }

    /// Follows what others committed.
    async fn look(&mut self) {
        let mut conn = match self.connected().await {
            Ok(conn) => conn,
            Err(error) => return self.shared.note_trouble(Some(error.to_string())),
        };
        let clock = self.clock.clone();
        let followed = async {
            let head = within(&*clock, LOOKED, head(&mut conn)).await?;
            self.follow(&mut conn, head).await
        };
        match followed.await {
            Ok(()) => {
                self.conn = Some(conn);
                self.shared.note_trouble(None);
            }
            Err(why) => {
                tracing::warn!(%why, "the journal could not be followed; trying again");
                self.shared.note_trouble(Some(format!("it cannot be followed: {why}")));
            }
        }
    }

    /// The connection in hand, or a new one to a database that still holds what was published.
    async fn connected(&mut self) -> Result<PgConnection, CommitError> {
        if let Some(why) = self.shared.dead() {
            return Err(CommitError::Unavailable(why));
        }
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        let mut conn = self.connector.primary().await.map_err(CommitError::Unavailable)?;
        // A commit that waits for a standby must not be cut off there: the database would call it done. How long it is
        // waited for is decided here.
        let patient = sqlx::raw_sql("SET statement_timeout = 0; SET plan_cache_mode = force_generic_plan")
            .execute(&mut conn)
            .await;
        patient.map_err(|e| CommitError::from(fault(&e)))?;
        let session = session(&mut conn).await.map_err(|e| CommitError::from(fault(&e)))?;
        self.session = Some(session);
        self.recognise(&mut conn).await?;
        Ok(conn)
    }

    /// A database that lost what was acknowledged is another one: nothing more is read from it or written to it.
    async fn recognise(&self, conn: &mut PgConnection) -> Result<(), CommitError> {
        let Some(last) = self.shared.size().checked_sub(1) else { return Ok(()) };
        let found = leaf(conn, last).await.map_err(|e| CommitError::from(fault(&e)))?;
        if found == self.last || self.last.is_none() {
            return Ok(());
        }
        let why = format!(
            "the database lost what was acknowledged: the record at position {last} is not the one that was committed. \
             Look which of its servers has it"
        );
        tracing::error!(%why, "the store is no longer usable; nothing more will be written");
        self.shared.die(why.clone());
        Err(CommitError::Unavailable(why))
    }

    /// Publishes what others committed before `head`. Of more than is kept in memory it is only told that it is there.
    async fn follow(&mut self, conn: &mut PgConnection, head: Head) -> Result<(), Error> {
        let clock = self.clock.clone();
        if head.size > self.shared.size() + RING as u64 || head.start > self.shared.size() {
            self.last = within(&*clock, LOOKED, leaf(conn, head.size - 1)).await?;
            self.shared.skip_to(head.start, head.size, head.high_water);
            return Ok(());
        }
        while self.shared.size() < head.size {
            let from = self.shared.size();
            let max = u32::try_from(head.size - from).unwrap_or(PAGE).min(PAGE);
            let page = async {
                let page = feed::page(conn, Position(from), max).await;
                let (records, leaf) = page.map_err(|e| Error::Protocol(e.to_string()))?;
                let Some((last, _)) = records.last() else {
                    return Err(Error::Protocol(format!("there is no record at position {from}")));
                };
                Ok((last.0 + 1, leaf, records))
            };
            let (to, last, records) = within(&*clock, READ, page).await?;
            self.last = last;
            let newest = records.iter().fold(self.shared.high_water(), |t, (_, r)| clock::newest(t, r.time));
            let gone: Vec<_> = records.iter().flat_map(|(_, r)| redacted(r)).collect();
            let start = records.iter().filter_map(|(_, r)| pruned_before(r)).max();
            self.shared.publish(records.into_iter().map(|(_, record)| record).collect(), to, newest);
            if !gone.is_empty() {
                self.shared.forget(&gone);
            }
            if let Some(start) = start {
                self.shared.begin_at(start.0);
            }
        }
        Ok(())
    }

    async fn group(&mut self, units: Vec<Unit>) {
        let mut conn = match self.connected().await {
            Ok(conn) => conn,
            Err(error) => {
                self.shared.note_trouble(Some(error.to_string()));
                return answer_all(units, &error);
            }
        };
        let mut kept = true;
        let group = match self.transaction(&mut conn, &units).await {
            Ok(group) => group,
            Err(Stop::Before(error)) => {
                // Whatever is open on the connection ends with it.
                return answer_all(units, &error);
            }
            Err(Stop::Unheard(group)) => {
                drop(conn);
                self.shared.note_trouble(Some("a commit was not answered".into()));
                match self.settle(group, &units).await {
                    Some((found, Some(group))) => {
                        // It was made to ask, not to commit.
                        (conn, kept) = (found, false);
                        group
                    }
                    Some((_, None)) => {
                        let why = "the database did not take the commit; try again";
                        return answer_all(units, &CommitError::Unavailable(why.into()));
                    }
                    None => return answer_all(units, &CommitError::Unknown),
                }
            }
        };
        // Between what is known here and this group others may have committed theirs.
        match self.follow(&mut conn, group.before).await {
            Ok(()) => {
                self.conn = kept.then_some(conn);
                self.shared.note_trouble(None);
                self.publish(units, group);
            }
            Err(why) => {
                tracing::warn!(%why, "what others committed could not be read; following again");
                // It is durable, and followers come to it with the next look.
                answer(units, group.outcomes);
            }
        }
    }

    async fn transaction(&self, conn: &mut PgConnection, units: &[Unit]) -> Result<Group, Stop> {
        if let Some(group) = self.at_once(conn, units).await? {
            return Ok(group);
        }
        let group = tokio::select! {
            prepared = self.prepared(conn, units) => prepared.map_err(Stop::Before)?,
            () = self.clock.sleep(PREPARED) => {
                return Err(Stop::Before(CommitError::Unavailable("the database takes too long".into())));
            }
        };
        if group.size == group.before.size {
            return Ok(group);
        }
        match self.committed(statement(conn, "COMMIT")).await {
            Ok(()) => Ok(group),
            // The database said no: nothing was written.
            Err(e @ Error::Database(_)) => Err(Stop::Before(fault(&e).into())),
            Err(_) => Err(Stop::Unheard(group)),
        }
    }

    /// A group of which no unit asks or changes anything: one statement is its whole transaction, so that the head is
    /// locked for no way there and back. `None`: the group takes more than that, or the journal's clock or size says that
    /// it has to be looked at unit by unit.
    async fn at_once(&self, conn: &mut PgConnection, units: &[Unit]) -> Result<Option<Group>, Stop> {
        let times = || units.iter().flat_map(|unit| &unit.records).map(|(record, _)| record.time);
        let (Some(oldest), Some(newest)) = (times().min(), times().max()) else { return Ok(None) };
        // Within these every one of them is believed, whatever the order.
        let believed = Believed { from: newest.minus(clock::FORWARDS), to: oldest.plus(clock::BACKWARDS) };
        if newest > believed.to || !units.iter().all(|unit| unit.guards.is_empty() && unit.writes.is_empty()) {
            return Ok(None);
        }
        let known = self.shared.size();
        let unheard = Head { size: known, high_water: self.shared.high_water(), start: self.shared.start() };
        let mut group = Group::after(unheard);
        for unit in units {
            let first = group.take(unit);
            group.outcomes.push(Ok(first));
        }
        match self.committed(append(conn, units, &group, known, believed)).await {
            Ok(Some(head)) => {
                group.move_to(head);
                Ok(Some(group))
            }
            Ok(None) => Ok(None),
            Err(e @ Error::Database(_)) => Err(Stop::Before(fault(&e).into())),
            Err(_) => Err(Stop::Unheard(group)),
        }
    }

    /// Waits for what commits, and says when that is slow.
    async fn committed<T>(&self, commit: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let slow = async {
            self.clock.sleep(SLOW).await;
            self.shared
                .note_trouble(Some("the database has not answered a commit for seconds; is its standby there?".into()));
            std::future::pending().await
        };
        let committed = async {
            tokio::select! {
                committed = commit => committed,
                never = slow => never,
            }
        };
        within(&*self.clock, COMMITTED, committed).await
    }

    /// Everything up to the commit. A group of which nothing is left is rolled back.
    async fn prepared(&self, conn: &mut PgConnection, units: &[Unit]) -> Result<Group, CommitError> {
        let before = |e: Error| CommitError::from(fault(&e));
        let head = begin(conn).await.map_err(before)?;
        if head.size < self.shared.size() {
            self.recognise(conn).await?;
        }
        let mut group = Group::after(head);
        for unit in units {
            let outcome = self.unit(conn, unit, &mut group).await.map_err(before)?;
            group.outcomes.push(outcome);
        }
        if group.size == head.size {
            statement(conn, "ROLLBACK").await.map_err(before)?;
            return Ok(group);
        }
        append(conn, units, &group, head.size, Believed::ANY).await.map_err(before)?;
        Ok(group)
    }

    /// One unit, in a savepoint when there is anything that could be half done. The error costs the group.
    async fn unit(
        &self,
        conn: &mut PgConnection,
        unit: &Unit,
        group: &mut Group,
    ) -> Result<Result<Position, CommitError>, Error> {
        let mut issued = unit.records.iter().filter(|(record, _)| issues(&record.kind));
        if let Err(doubt) = issued.try_for_each(|(record, _)| clock::judge(record.time, group.high_water)) {
            return Ok(Err(CommitError::Unavailable(doubt.to_string())));
        }
        let nested = !unit.writes.is_empty() || unit.guards.iter().any(guard::takes);
        if nested {
            statement(conn, "SAVEPOINT unit").await?;
        }
        let refused = match state(conn, unit).await {
            Ok(()) => None,
            Err(Refusal::Lost(guard)) => Some(CommitError::Lost(guard)),
            Err(Refusal::Write(WriteError::Refused(fault))) => Some(fault.into()),
            Err(Refusal::Write(WriteError::Sql(e))) => match fault(&e) {
                contradiction @ Fault::Contradiction(_) if nested => Some(contradiction.into()),
                _ => return Err(e),
            },
        };
        if nested {
            let end = if refused.is_some() { "ROLLBACK TO SAVEPOINT unit" } else { "RELEASE SAVEPOINT unit" };
            statement(conn, end).await?;
        }
        if let Some(error) = refused {
            return Ok(Err(error));
        }
        Ok(Ok(group.take(unit)))
    }

    /// What became of a commit that was not answered. The lock on the head waits for it when it still goes on. Behind the
    /// lock its session is ended: what is still on its way there comes to nothing, and its rows are there or not. `None`:
    /// nobody can be asked.
    async fn settle(&self, mut group: Group, units: &[Unit]) -> Option<(PgConnection, Option<Group>)> {
        let ours: Vec<Hash> = leaves(units, &group).collect();
        for _ in 0..SETTLE.0 {
            let asked = async {
                let mut conn = self.connector.primary().await.ok()?;
                let head = begin(&mut conn).await.ok()?;
                self.end_session(&mut conn).await.ok()?;
                let first = find(&mut conn, group.before.size, &ours).await.ok()?;
                statement(&mut conn, "ROLLBACK").await.ok()?;
                Some((conn, first.map(|size| Head { size, ..head })))
            };
            let asked = async { asked.await.ok_or(Error::PoolClosed) };
            match within(&*self.clock, SETTLED, asked).await.ok() {
                Some((conn, None)) => return Some((conn, None)),
                Some((conn, Some(head))) => {
                    group.move_to(head);
                    return Some((conn, Some(group)));
                }
                None => self.clock.sleep(SETTLE.1).await,
            }
        }
        None
    }

    /// Returns when the session of the connection that was given up is gone. Asked with the head locked: it commits nothing
    /// meanwhile, and is not cut off while it waits for a standby.
    async fn end_session(&self, conn: &mut PgConnection) -> Result<(), Error> {
        let Some((process, began)) = &self.session else { return Ok(()) };
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE pid = $1 AND backend_start::text = $2";
        loop {
            let left: i64 = sqlx::query_scalar(sql).bind(process).bind(began).fetch_one(&mut *conn).await?;
            if left == 0 {
                return Ok(());
            }
            // A transaction sees the sessions as it saw them first, until it is told not to.
            sqlx::raw_sql("SELECT pg_stat_clear_snapshot(), pg_sleep(0.02)").execute(&mut *conn).await?;
        }
    }

    /// Followers first, then those who wait: who hears that a unit is durable finds it in the feed.
    fn publish(&mut self, units: Vec<Unit>, group: Group) {
        let done = || units.iter().zip(&group.outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(unit, _)| unit);
        let redacted: Vec<_> = done().flat_map(|unit| unit.writes.iter().filter_map(Put::redacts)).collect();
        let start = done().flat_map(|unit| unit.writes.iter().filter_map(Put::prunes)).max();
        let records: Vec<_> = done().flat_map(|unit| unit.records.iter().map(|(record, _)| record.clone())).collect();
        if let Some((_, encoded)) = done().flat_map(|unit| &unit.records).last() {
            self.last = Some(encoded.leaf);
        }
        self.shared.publish(records, group.size, group.high_water);
        if !redacted.is_empty() {
            self.shared.forget(&redacted);
        }
        if let Some(start) = start {
            self.shared.begin_at(start);
        }
        answer(units, group.outcomes);
    }
}

fn answer(units: Vec<Unit>, outcomes: Vec<Result<Position, CommitError>>) {
    for (unit, outcome) in units.into_iter().zip(outcomes) {
        let leaves = || unit.records.iter().map(|(_, encoded)| encoded.leaf).collect();
        // Who no longer waits has gone away; the unit is durable all the same.
        let _ = unit.reply.send(outcome.map(|first| Durable::assertion(first, leaves())));
    }
}

async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        answer = asked => answer,
        () = clock.sleep(limit) => Err(Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

enum Refusal {
    Lost(Guard),
    Write(WriteError),
}

async fn state(conn: &mut PgConnection, unit: &Unit) -> Result<(), Refusal> {
    let now = unit.records.first().map(|(record, _)| record.time).unwrap_or_default();
    for guard in &unit.guards {
        let holds = guard::holds(conn, guard, now).await.map_err(|e| Refusal::Write(WriteError::Sql(e)))?;
        if !holds {
            return Err(Refusal::Lost(guard.clone()));
        }
    }
    for put in &unit.writes {
        apply(conn, put).await.map_err(Refusal::Write)?;
    }
    Ok(())
}

/// The leaves of all records that are in a group.
fn leaves(units: &[Unit], group: &Group) -> impl Iterator<Item = Hash> {
    let done = units.iter().zip(&group.outcomes).filter(|(_, outcome)| outcome.is_ok());
    done.flat_map(|(unit, _)| unit.records.iter().map(|(_, encoded)| encoded.leaf))
}

/// The records of all units that were not refused, and the head behind them; others hear of it with the commit. `None`,
/// and nothing is written, when the journal is shorter than `known` or its newest time is not within what is believed.
/// The head before, with its newest time from after.
async fn append(
    conn: &mut PgConnection,
    units: &[Unit],
    group: &Group,
    known: u64,
    believed: Believed,
) -> Result<Option<Head>, Error> {
    // Everything lies so far behind the head as it is found.
    let (mut places, mut times, mut leaves, mut bodies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut beside, mut fields, mut salts, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let done = units.iter().zip(&group.outcomes).filter(|(_, outcome)| outcome.is_ok());
    for (record, encoded) in done.flat_map(|(unit, _)| &unit.records) {
        let place = int(places.len() as u64);
        places.push(place);
        times.push(record.time.as_millis());
        leaves.push(encoded.leaf.as_slice());
        bodies.push(encoded.body.as_slice());
        for (field, salt, value) in &encoded.private {
            beside.push(place);
            fields.push(field.as_str());
            salts.push(salt.as_slice());
            values.push(value.as_bytes());
        }
    }
    // One statement: what takes turns over all servers is how often it is waited for.
    let sql = "WITH head AS (UPDATE journal_head
                   SET size = size + $9, clock_high_water = greatest(clock_high_water, $10)
                   WHERE size >= $12 AND clock_high_water BETWEEN $13 AND $14
                   RETURNING size - $9 AS first, clock_high_water, start),
               records AS (INSERT INTO journal SELECT head.first + place, time, leaf, body FROM head,
                   unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS r(place, time, leaf, body)),
               beside AS (INSERT INTO journal_private SELECT head.first + place, field, salt, value FROM head,
                   unnest($5::bigint[], $6::text[], $7::bytea[], $8::bytea[]) AS b(place, field, salt, value))
               SELECT first, clock_high_water, start, pg_notify($11, (first + $9)::text) FROM head";
    let count = places.len() as u64;
    let appended = sqlx::query(sql).bind(places).bind(times).bind(leaves).bind(bodies);
    let appended = appended.bind(beside).bind(fields).bind(salts).bind(values);
    let appended = appended.bind(int(count)).bind(group.high_water.as_millis()).bind(CHANNEL);
    let appended = appended.bind(int(known)).bind(believed.from.as_millis()).bind(believed.to.as_millis());
    // All of the answer: where this is the whole transaction, its row comes before its commit.
    let mut head = appended.fetch_all(conn).await?;
    head.pop().map(read_head).transpose()
}

/// Which session this connection is.
async fn session(conn: &mut PgConnection) -> Result<Session, Error> {
    let sql = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    sqlx::query_as(sql).fetch_one(conn).await
}

/// One message there and one back, nothing prepared.
async fn statement(conn: &mut PgConnection, sql: &'static str) -> Result<(), Error> {
    sqlx::raw_sql(sql).execute(conn).await.map(drop)
}

/// The head as it stands.
async fn head(conn: &mut PgConnection) -> Result<Head, Error> {
    read_head(sqlx::query("SELECT size, clock_high_water, start FROM journal_head").fetch_one(conn).await?)
}

/// Begins a transaction that has the head to itself.
async fn begin(conn: &mut PgConnection) -> Result<Head, Error> {
    let both = "BEGIN; SELECT size, clock_high_water, start FROM journal_head FOR UPDATE";
    let mut rows = sqlx::raw_sql(both).fetch_all(conn).await?;
    read_head(rows.pop().ok_or(Error::RowNotFound)?)
}

fn read_head(row: PgRow) -> Result<Head, Error> {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let high_water = Timestamp::from_millis(row.try_get(1)?);
    Ok(Head { size: number(row.try_get(0)?), high_water, start: number(row.try_get(2)?) })
}

/// Where records with these leaves stand in a row, from `from` on.
async fn find(conn: &mut PgConnection, from: u64, ours: &[Hash]) -> Result<Option<u64>, Error> {
    let sql = "SELECT leaf FROM journal WHERE position >= $1 ORDER BY position";
    let there: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(int(from)).fetch_all(conn).await?;
    let place = there.windows(ours.len().max(1)).position(|found| found == ours);
    Ok(place.map(|place| from + place as u64))
}

/// The leaf at a position, when there is a record.
pub async fn leaf(conn: &mut PgConnection, position: u64) -> Result<Option<Hash>, Error> {
    let sql = "SELECT leaf FROM journal WHERE position = $1";
    let found: Option<Vec<u8>> = sqlx::query_scalar(sql).bind(int(position)).fetch_optional(conn).await?;
    Ok(found.and_then(|bytes| bytes.try_into().ok()))
}

/// The records from `from` to `to`, exclusive, that are there.
pub async fn kept(conn: &mut PgConnection, from: u64, to: u64) -> Result<Vec<(u64, Kept)>, Error> {
    let sql = "SELECT position, leaf, body FROM journal WHERE position >= $1 AND position < $2";
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(sql).bind(int(from)).bind(int(to)).fetch_all(conn).await?;
    let known = rows
        .into_iter()
        .filter_map(|(at, leaf, body)| Some((u64::try_from(at).ok()?, Kept { leaf: leaf.try_into().ok()?, body })));
    Ok(known.collect())
}

/// Tells of commits of others as soon as they are announced. Without it they are seen with the next look.
pub async fn listen(connector: Arc<Connector>, clock: Arc<dyn Clock>, shared: Arc<Shared>, announced: Arc<Notify>) {
    loop {
        if let Err(error) = hear(&connector, &shared, &announced).await {
            tracing::debug!(%error, "commits of other servers are not announced here now");
        }
        clock.sleep(LOOK).await;
    }
}

async fn hear(connector: &Connector, shared: &Shared, announced: &Notify) -> Result<(), Error> {
    let (options, conn) = connector.found().await.map_err(Error::Protocol)?;
    conn.close().await?;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    // Something may have been committed before.
    announced.notify_one();
    while let Some(heard) = listener.try_recv().await? {
        // What this server committed itself is nothing new.
        if heard.payload().parse::<u64>().map_or(true, |size| size > shared.size()) {
            announced.notify_one();
        }
    }
    Ok(())
}
