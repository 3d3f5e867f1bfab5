//! What leaves the journal: where each sink stands, and the contents that are pruned.
//!
//! A record is pruned from the commit on that says so; its bytes go in small steps afterwards, so that no commit waits
//! long. The leaf stays.

use super::{error::unreadable, rows, writer::Chore};
use proto_types::{Position, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use server_core::{journal, ports::ReadError};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Records whose bytes go in one transaction.
const STEP: u64 = 500;

pub fn cursor(conn: &Connection, sink: &str) -> Result<Option<Position>, ReadError> {
    conn.query_row("SELECT next FROM sink_cursor WHERE name = ?1", [sink], |row| row.get(0))
        .optional()
        .map(|next| next.map(Position))
        .map_err(unreadable)
}

pub fn keep_cursor(sink: &str, next: Position) -> Chore {
    let sink = sink.to_string();
    Box::new(move |conn| {
        let sql = "INSERT OR REPLACE INTO sink_cursor VALUES(?1, ?2)";
        conn.prepare_cached(sql)?.execute(params![sink, rows::int(next.0)]).map(|_| ())
    })
}

/// Records before this have no contents.
pub fn pruned(conn: &Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT below FROM journal_pruned")?.query_row([], |row| row.get(0))
}

pub fn first_since(conn: &Connection, from: Position, most: u32, time: Timestamp) -> Result<Position, ReadError> {
    let end = from.0 + u64::from(most);
    let sql = "SELECT position FROM journal WHERE position >= ?1 AND position < ?2 AND time >= ?3
               ORDER BY position LIMIT 1";
    let read = || {
        let found: Option<u64> = conn
            .prepare_cached(sql)?
            .query_row(params![rows::int(from.0), rows::int(end), time.as_millis()], |row| row.get(0))
            .optional()?;
        match found {
            Some(first) => Ok(first),
            None => conn.query_row("SELECT size FROM journal_head", [], |row| row.get::<_, u64>(0)).map(|n| n.min(end)),
        }
    };
    read().map(Position).map_err(unreadable)
}

/// Takes the bytes of some pruned records out of the file; `more` says whether some are left.
pub fn sweep(more: Arc<AtomicBool>) -> Chore {
    Box::new(move |conn| {
        let step = conn.unchecked_transaction()?;
        let (below, swept): (u64, u64) =
            step.query_row("SELECT below, swept FROM journal_pruned", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let end = below.min(swept + STEP);
        for position in swept..end {
            empty(&step, Position(position))?;
        }
        step.execute("UPDATE journal_pruned SET swept = ?1", [rows::int(end)])?;
        step.commit()?;
        more.store(end < below, Ordering::Release);
        Ok(())
    })
}

/// A record without its contents: neither body nor private values, and nothing that finds it.
fn empty(conn: &Connection, position: Position) -> rusqlite::Result<()> {
    let at = rows::int(position.0);
    let body: Option<Vec<u8>> = conn
        .prepare_cached("SELECT body FROM journal WHERE position = ?1")?
        .query_row([at], |row| row.get(0))
        .optional()?;
    // A body that cannot be read keeps its keys: they find nothing below the pruned position.
    if let Some(record) = body.and_then(|body| journal::decode(&body, &[]).ok()) {
        let mut keyed = conn.prepare_cached("DELETE FROM journal_key WHERE key = ?1 AND position = ?2")?;
        for key in journal::keys(&record) {
            keyed.execute(params![key, at])?;
        }
    }
    conn.prepare_cached("DELETE FROM journal_private WHERE position = ?1")?.execute([at])?;
    conn.prepare_cached("UPDATE journal SET body = x'' WHERE position = ?1")?.execute([at])?;
    Ok(())
}
