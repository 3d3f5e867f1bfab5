//! Records as followers read them: from memory, or else from the database.

use super::{connect::Pool, error::unreadable};
use crate::{
    rows::{inconsistent, int},
    shared::{PAGE, Shared},
};
use proto_types::{Position, Record};
use server_core::{
    journal::{self, Hash, Private},
    ports::{ReadError, Records},
};
use sqlx::PgConnection;
use std::{collections::HashMap, sync::Arc};

/// Records from `from` on, from memory or else from the database.
pub async fn follow(shared: &Shared, pool: &Pool, from: Position, max: u32) -> Result<Records, ReadError> {
    let max = max.min(PAGE);
    let found = match shared.recent(from, max) {
        Some(records) => Ok(records),
        None => pool.at_once(move |conn| Box::pin(async move { Ok(page(conn, from, max).await?.0) })).await,
    };
    // Asked last: what went while it was being read lies before it by now.
    let start = shared.start();
    if from.0 < start { Err(ReadError::Pruned(Position(start))) } else { found }
}

/// Records from `from` on, without a gap, and the leaf of the last.
pub async fn page(conn: &mut PgConnection, from: Position, max: u32) -> Result<(Records, Option<Hash>), ReadError> {
    let sql = "SELECT position, leaf, body FROM journal WHERE position >= $1 ORDER BY position LIMIT $2";
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as(sql).bind(int(from.0)).bind(i64::from(max)).fetch_all(&mut *conn).await.map_err(unreadable)?;
    let positions: Vec<i64> = rows.iter().map(|(position, _, _)| *position).collect();
    let leaf = rows.last().and_then(|(_, leaf, _)| Hash::try_from(leaf.as_slice()).ok());
    let mut beside = private(conn, &positions).await?;
    let mut records = Vec::with_capacity(rows.len());
    for (position, _, body) in rows {
        // A follower that is handed a gap would never know: better no answer than a wrong one.
        let expected = from.0 + records.len() as u64;
        if position != int(expected) {
            return Err(inconsistent("journal", expected));
        }
        let record = decoded(position, &body, &mut beside)?;
        records.push((Position(expected), Arc::new(record)));
    }
    Ok((records, leaf))
}

/// A row as a record, with what stands beside it.
pub fn decoded(position: i64, body: &[u8], beside: &mut Beside) -> Result<Record, ReadError> {
    let private = beside.remove(&position).unwrap_or_default();
    journal::decode(body, &private).map_err(|_| inconsistent("journal", position))
}

/// What stands beside records, by their positions.
pub type Beside = HashMap<i64, Vec<Private>>;

pub async fn private(conn: &mut PgConnection, positions: &[i64]) -> Result<Beside, ReadError> {
    let sql =
        "SELECT position, field, salt, value FROM journal_private WHERE position = ANY($1) ORDER BY position, field";
    let rows: Vec<(i64, String, Vec<u8>, Vec<u8>)> =
        sqlx::query_as(sql).bind(positions).fetch_all(conn).await.map_err(unreadable)?;
    let mut beside = Beside::new();
    for (position, field, salt, value) in rows {
        let value = String::from_utf8(value).map_err(|_| inconsistent("journal_private", position))?;
        beside.entry(position).or_default().push((field, salt, value));
    }
    Ok(beside)
}
