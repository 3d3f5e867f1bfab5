//! Records as followers read them: from memory, or else from the disk.

use super::{error::unreadable, pool::Pool};
use crate::{
    rows,
    shared::{PAGE, Shared},
};
use proto_types::{Position, Record};
use rusqlite::Connection;
use server_core::{journal, ports::ReadError};
use std::sync::Arc;

/// Records from `from` on, from memory or else from the disk.
pub async fn follow(
    shared: &Shared,
    pool: &Pool,
    from: Position,
    max: u32,
) -> Result<Vec<(Position, Arc<Record>)>, ReadError> {
    let max = max.min(PAGE);
    let found = match shared.recent(from, max) {
        Some(records) => Ok(records),
        None => pool.with(move |conn| stored(conn, from, max)).await,
    };
    // Asked last: what went while it was being read lies before it by now.
    let start = shared.start();
    if from.0 < start { Err(ReadError::Pruned(Position(start))) } else { found }
}

fn stored(conn: &Connection, from: Position, max: u32) -> Result<Vec<(Position, Arc<Record>)>, ReadError> {
    let sql = "SELECT position, body FROM journal WHERE position >= ?1 ORDER BY position LIMIT ?2";
    let mut statement = conn.prepare_cached(sql).map_err(unreadable)?;
    let mut found = statement.query((rows::int(from.0), max)).map_err(unreadable)?;
    let mut records = Vec::new();
    while let Some(row) = found.next().map_err(unreadable)? {
        let position = Position(row.get(0).map_err(unreadable)?);
        // A follower that is handed a gap would never know: better no answer than a wrong one.
        let expected = from.0 + records.len() as u64;
        if position.0 != expected {
            return Err(rows::inconsistent("journal", expected));
        }
        let body: Vec<u8> = row.get(1).map_err(unreadable)?;
        let private = super::rows::private(conn, position).map_err(unreadable)?;
        let record = journal::decode(&body, &private).map_err(|_| rows::inconsistent("journal", position.0))?;
        records.push((position, Arc::new(record)));
    }
    Ok(records)
}
