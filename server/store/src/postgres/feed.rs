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
    // One question: whoever commits in turn with other servers reads what they wrote in between.
    let sql = "SELECT j.position, j.leaf, j.body, p.field, p.salt, p.value
               FROM (SELECT * FROM journal WHERE position >= $1 ORDER BY position LIMIT $2) j
               LEFT JOIN journal_private p ON p.position = j.position ORDER BY j.position, p.field";
    let rows: Vec<Joined> =
        sqlx::query_as(sql).bind(int(from.0)).bind(i64::from(max)).fetch_all(conn).await.map_err(unreadable)?;
    let leaf = rows.last().and_then(|row| Hash::try_from(row.1.as_slice()).ok());
    let mut records = Records::new();
    for same in rows.chunk_by(|a, b| a.0 == b.0) {
        let Some((position, _, body, ..)) = same.first() else { continue };
        // A follower that is handed a gap would never know: better no answer than a wrong one.
        let expected = from.0 + records.len() as u64;
        if *position != int(expected) {
            return Err(inconsistent("journal", expected));
        }
        let private = same.iter().filter_map(|(.., field, salt, value)| {
            Some(read_private(*position, field.clone()?, salt.clone()?, value.clone()?))
        });
        let record = journal::decode(body, &private.collect::<Result<Vec<_>, _>>()?)
            .map_err(|_| inconsistent("journal", *position))?;
        records.push((Position(expected), Arc::new(record)));
    }
    Ok((records, leaf))
}

/// A record, and one of the values beside it.
type Joined = (i64, Vec<u8>, Vec<u8>, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>);

fn read_private(position: i64, field: String, salt: Vec<u8>, value: Vec<u8>) -> Result<Private, ReadError> {
    let value = String::from_utf8(value).map_err(|_| inconsistent("journal_private", position))?;
    Ok((field, salt, value))
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
        beside.entry(position).or_default().push(read_private(position, field, salt, value)?);
    }
    Ok(beside)
}
