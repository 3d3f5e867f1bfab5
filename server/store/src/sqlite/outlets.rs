//! Where each sink of the journal stands, and each singleton job.

use super::{error::unreadable, writer::Chore};
use crate::rows;
use proto_types::{Epoch, Position};
use rusqlite::{Connection, OptionalExtension, params};
use server_core::ports::ReadError;

pub fn cursor(conn: &Connection, sink: &str) -> Result<Option<Position>, ReadError> {
    conn.query_row("SELECT next FROM sink_cursor WHERE name = ?1", [sink], |row| row.get(0))
        .optional()
        .map(|next| next.map(Position))
        .map_err(unreadable)
}

/// The epoch of a singleton job.
pub fn fence(conn: &Connection, job: &str) -> Result<Epoch, ReadError> {
    let epoch: Option<i64> = conn
        .query_row("SELECT epoch FROM job WHERE name = ?1", [job], |row| row.get(0))
        .optional()
        .map_err(unreadable)?;
    Ok(Epoch(epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0)))
}

pub fn keep_cursor(sink: &str, next: Position) -> Chore {
    let sink = sink.to_string();
    Box::new(move |conn| {
        let sql = "INSERT OR REPLACE INTO sink_cursor VALUES(?1, ?2)";
        conn.prepare_cached(sql)?.execute(params![sink, rows::int(next.0)]).map(|_| ())
    })
}
