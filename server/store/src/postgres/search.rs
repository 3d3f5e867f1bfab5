//! The journal by content: which records name what was asked for.

use super::{
    archive::maybe,
    error::unreadable,
    feed,
    index::{self, Recent, STEP},
};
use crate::{rows::int, shared::PAGE};
use proto_types::{Position, Record, Timestamp};
use server_core::{
    journal::{self, key_hash},
    ports::{Filter, ReadError},
};
use sqlx::{PgConnection, Postgres, QueryBuilder, Result};

/// No record stands more than this before one written earlier (the writer's rule), milliseconds.
const DISORDER: i64 = 30_000;

/// Records that are not in the index yet and are still looked through for a search; there are some more than a step of them
/// while one is taken.
const UNINDEXED: u64 = 64 * STEP;

/// Records, newest first.
pub async fn search(
    conn: &mut PgConnection,
    filter: &Filter,
    before: Option<Position>,
    max: u32,
    recent: Recent<'_>,
) -> Result<Vec<(Position, Record)>, ReadError> {
    let max = max.min(PAGE) as usize;
    let (low, high) = bounds(conn, filter, before).await.map_err(unreadable)?;
    // Asked first: the index only grows.
    let indexed = index::end(conn).await.map_err(unreadable)?;
    let mut found = unindexed(conn, filter, indexed.max(low), high, recent).await?;
    found.reverse();
    found.truncate(max);
    let mut query = build(filter, int(low), int(high.min(indexed)), max - found.len());
    let rows: Vec<(i64, Vec<u8>)> = query.build_query_as().fetch_all(&mut *conn).await.map_err(unreadable)?;
    let positions: Vec<i64> = rows.iter().map(|(position, _)| *position).collect();
    let mut beside = feed::private(conn, &positions).await?;
    for (position, body) in rows {
        let record = feed::decoded(position, &body, &mut beside)?;
        if journal::admits(filter, &record) {
            found.push((Position(u64::try_from(position).unwrap_or(0)), record));
        }
    }
    Ok(found)
}

/// What is asked for among records that are not in the index, oldest first.
async fn unindexed(
    conn: &mut PgConnection,
    filter: &Filter,
    from: u64,
    to: u64,
    recent: Recent<'_>,
) -> Result<Vec<(Position, Record)>, ReadError> {
    let (mut at, mut found) = (from, Vec::new());
    if to.saturating_sub(from) > UNINDEXED {
        let missing = to - from;
        let why = format!(
            "{missing} records are not in the journal's index yet; search again when a server has put them there"
        );
        return Err(ReadError::Unavailable(why));
    }
    while at < to {
        let records = index::records(conn, at, PAGE, recent).await?;
        let Some((last, _)) = records.last() else { break };
        at = last.0 + 1;
        let asked = records.iter().filter(|(position, record)| position.0 < to && journal::admits(filter, record));
        found.extend(asked.map(|(position, record)| (*position, Record::clone(record))));
    }
    Ok(found)
}

/// The most telling key drives, the others are looked up record by record.
fn build(filter: &Filter, low: i64, high: i64, max: usize) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("SELECT j.position, j.body FROM ");
    let mut keys = journal::asked_keys(filter).into_iter().map(|key| key_hash(&key));
    match keys.next() {
        Some(first) => {
            query.push("journal_found k JOIN journal j ON j.position = k.position WHERE k.key = ").push_bind(first);
            query.push(" AND k.position >= ").push_bind(low).push(" AND k.position < ").push_bind(high);
        }
        None => {
            query.push("journal j WHERE j.position >= ").push_bind(low);
            query.push(" AND j.position < ").push_bind(high);
        }
    }
    for key in keys {
        query.push(" AND EXISTS(SELECT 1 FROM journal_found x WHERE x.key = ").push_bind(key);
        query.push(" AND x.position = j.position)");
    }
    if let Some(credential) = &filter.credential {
        let keys = journal::credential_keys(credential).map(|key| key_hash(&key));
        query
            .push(" AND j.position IN (SELECT position FROM journal_found WHERE key = ANY(")
            .push_bind(keys)
            .push("))");
    }
    if let Some(user) = &filter.user {
        query.push(
            " AND j.position IN (SELECT position FROM journal_private WHERE field = 'user' AND sha256(value) = sha256(",
        );
        query.push_bind(user.as_bytes().to_vec()).push("))");
    }
    maybe(&mut query, " AND j.time >= ", filter.from.map(|t| t.as_millis()));
    maybe(&mut query, " AND j.time <= ", filter.to.map(|t| t.as_millis()));
    query.push(" ORDER BY j.position DESC LIMIT ").push_bind(int(max as u64));
    query
}

/// The positions among which all records of the asked time lie: `low..high`.
///
/// Times rise with positions but for [`DISORDER`], so a halving search finds bounds that are safe, if a little wide.
async fn bounds(conn: &mut PgConnection, filter: &Filter, before: Option<Position>) -> Result<(u64, u64)> {
    let (start, size) = ends(conn).await?;
    let high = before.map_or(size, |b| int(b.0).min(size));
    let low = match filter.from {
        Some(from) => behind(conn, (start, high), &passed(from)).await?,
        None => start,
    };
    let high = match filter.to.map(|t| t.as_millis() + DISORDER) {
        Some(to) => behind(conn, (start, high), &|time| time <= to).await?,
        None => high,
    };
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok((number(low), number(high)))
}

/// Where the records that are kept begin, and where they end.
async fn ends(conn: &mut PgConnection) -> Result<(i64, i64)> {
    sqlx::query_as("SELECT start, size FROM journal_head").fetch_one(conn).await
}

/// Whether a record written then leaves no later one that is older than `time`.
fn passed(time: Timestamp) -> impl Fn(i64) -> bool + Sync {
    let bound = time.as_millis() - DISORDER;
    move |written| written < bound
}

/// The position behind the last record whose time `passed`, among those of which the earlier did when a later did.
async fn behind(conn: &mut PgConnection, among: (i64, i64), passed: &(dyn Fn(i64) -> bool + Sync)) -> Result<i64> {
    let (mut low, mut end) = among;
    while low < end {
        let middle = low + (end - low) / 2;
        let asked = sqlx::query_scalar("SELECT time FROM journal WHERE position = $1").bind(middle);
        let time: Option<i64> = asked.fetch_optional(&mut *conn).await?;
        // A record that is missing tells nothing: it counts as one that did not pass.
        if time.is_some_and(passed) { low = middle + 1 } else { end = middle }
    }
    Ok(low)
}

/// A position before which every record is older than `time`.
pub async fn older_than(conn: &mut PgConnection, time: Timestamp) -> Result<Position, ReadError> {
    let among = ends(conn).await.map_err(unreadable)?;
    let found = behind(conn, among, &passed(time)).await.map_err(unreadable)?;
    Ok(Position(u64::try_from(found).unwrap_or(0)))
}
