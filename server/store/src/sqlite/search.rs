//! Finding records by content: exact keys joined with the journal, newest first.

use super::error::unreadable;
use crate::{rows, shared::PAGE};
use proto_types::{Position, Record, Timestamp};
use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};
use server_core::{
    journal,
    ports::{Filter, ReadError},
};

/// No record stands more than this before one written earlier (the writer's rule), milliseconds.
const DISORDER: i64 = 30_000;

/// A query under construction; every value is bound, none is pasted.
#[derive(Default)]
pub struct Query {
    pub text: String,
    pub values: Vec<Box<dyn ToSql>>,
}

impl Query {
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }
    /// Adds text with one `?` for each value.
    pub fn add(&mut self, text: &str, values: impl IntoIterator<Item = Box<dyn ToSql>>) {
        self.text.push_str(text);
        self.values.extend(values);
    }
    pub fn with(&mut self, text: &str, value: impl ToSql + 'static) {
        self.add(text, [Box::new(value) as Box<dyn ToSql>]);
    }
}

pub fn search(
    conn: &Connection,
    filter: &Filter,
    before: Option<Position>,
    max: u32,
) -> Result<Vec<(Position, Record)>, ReadError> {
    let (low, high) = bounds(conn, filter, before).map_err(unreadable)?;
    let query = build(filter, low, high, max);
    let mut statement = conn.prepare(&query.text).map_err(unreadable)?;
    let mut found = statement.query(params_from_iter(query.values)).map_err(unreadable)?;
    let mut records = Vec::new();
    while let Some(row) = found.next().map_err(unreadable)? {
        let position = Position(row.get(0).map_err(unreadable)?);
        let body: Vec<u8> = row.get(1).map_err(unreadable)?;
        let private = super::rows::private(conn, position).map_err(unreadable)?;
        let record = journal::decode(&body, &private).map_err(|_| rows::inconsistent("journal", position.0))?;
        records.push((position, record));
    }
    Ok(records)
}

/// The most telling key drives, the others are looked up record by record.
fn build(filter: &Filter, low: u64, high: u64, max: u32) -> Query {
    let mut query = Query::new("SELECT j.position, j.body FROM ");
    let mut keys = journal::asked_keys(filter).into_iter();
    match keys.next() {
        Some(first) => {
            query.with("journal_key k CROSS JOIN journal j ON j.position = k.position WHERE k.key = ?", first);
            query.with(" AND k.position >= ?", rows::int(low));
            query.with(" AND k.position < ?", rows::int(high));
        }
        None => {
            query.with("journal j WHERE j.position >= ?", rows::int(low));
            query.with(" AND j.position < ?", rows::int(high));
        }
    }
    for key in keys {
        query.with(" AND EXISTS(SELECT 1 FROM journal_key x WHERE x.key = ? AND x.position = j.position)", key);
    }
    if let Some(credential) = &filter.credential {
        let keys = journal::credential_keys(credential).map(|k| Box::new(k) as Box<dyn ToSql>);
        query.add(" AND j.position IN (SELECT position FROM journal_key WHERE key IN (?, ?))", keys);
    }
    if let Some(user) = &filter.user {
        let held = " AND j.position IN (SELECT position FROM journal_private WHERE field = 'user' AND value = ?)";
        query.with(held, user.clone());
    }
    if let Some(from) = filter.from {
        query.with(" AND j.time >= ?", from.as_millis());
    }
    if let Some(to) = filter.to {
        query.with(" AND j.time <= ?", to.as_millis());
    }
    query.with(" ORDER BY j.position DESC LIMIT ?", max.min(PAGE));
    query
}

/// The positions among which all records of the asked time lie: `low..high`.
///
/// Times rise with positions but for [`DISORDER`], so a halving search finds bounds that are safe, if a little wide.
fn bounds(conn: &Connection, filter: &Filter, before: Option<Position>) -> rusqlite::Result<(u64, u64)> {
    let (start, size) = ends(conn)?;
    let high = before.map_or(size, |b| b.0.min(size));
    let low = match filter.from {
        Some(from) => behind(conn, (start, high), &passed(from))?,
        None => start,
    };
    let high = match filter.to.map(|t| t.as_millis() + DISORDER) {
        Some(to) => behind(conn, (start, high), &|time| time <= to)?,
        None => high,
    };
    Ok((low, high))
}

/// Where the records that are kept begin, and where they end.
fn ends(conn: &Connection) -> rusqlite::Result<(u64, u64)> {
    conn.query_row("SELECT start, size FROM journal_head", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Whether a record written then leaves no later one that is older than `time`.
fn passed(time: Timestamp) -> impl Fn(i64) -> bool {
    let bound = time.as_millis() - DISORDER;
    move |written| written < bound
}

/// The position behind the last record whose time `passed`, among those of which the earlier did when a later did.
fn behind(conn: &Connection, among: (u64, u64), passed: &dyn Fn(i64) -> bool) -> rusqlite::Result<u64> {
    let mut statement = conn.prepare_cached("SELECT time FROM journal WHERE position = ?1")?;
    let (mut low, mut end) = among;
    while low < end {
        let middle = low + (end - low) / 2;
        let time: Option<i64> = statement.query_row([rows::int(middle)], |row| row.get(0)).optional()?;
        // A record that is missing tells nothing: it counts as one that did not pass.
        if time.is_some_and(passed) { low = middle + 1 } else { end = middle }
    }
    Ok(low)
}

/// A position before which every record is older than `time`.
pub fn older_than(conn: &Connection, time: Timestamp) -> Result<Position, ReadError> {
    let found = ends(conn).and_then(|among| behind(conn, among, &passed(time)));
    found.map(Position).map_err(unreadable)
}
