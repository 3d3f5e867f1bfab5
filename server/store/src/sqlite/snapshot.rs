//! Everything a server holds in memory, read in one transaction.

use super::error::unreadable;
use crate::rows::{inconsistent, noun, read_authority_state, read_key_use};
use proto_types::{Position, TaskId, Timestamp};
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;
use server_core::ports::{AuthorityRow, ReadError, Snapshot};

pub fn load(conn: &Connection) -> Result<Snapshot, ReadError> {
    // One transaction: the journal's size and every row are of the same moment.
    let moment = conn.unchecked_transaction().map_err(unreadable)?;
    let at: u64 = moment.query_row("SELECT size FROM journal_head", [], |row| row.get(0)).map_err(unreadable)?;
    Ok(Snapshot {
        at: Position(at),
        entries: nouns(&moment, "entry", "SELECT id, body FROM entry ORDER BY id")?,
        nodes: nouns(&moment, "node", "SELECT id, body FROM node ORDER BY id")?,
        tasks: nouns(&moment, "task", "SELECT id, body FROM task WHERE state NOT IN ('ended', 'denied') ORDER BY id")?,
        serials: serials(&moment)?,
        leases: nouns(
            &moment,
            "lease",
            "SELECT id, body FROM lease WHERE state NOT IN ('revoked', 'expired', 'void') ORDER BY id",
        )?,
        revoked_tokens: revoked_tokens(&moment)?,
        authorities: authorities(&moment)?,
        targets: nouns(&moment, "target", "SELECT name, body FROM target ORDER BY name")?,
        policies: nouns(&moment, "policy", "SELECT id, body FROM policy ORDER BY id")?,
        holds: nouns(&moment, "hold", "SELECT id, body FROM hold ORDER BY id")?,
    })
}

fn nouns<T: DeserializeOwned>(conn: &Connection, table: &str, sql: &str) -> Result<Vec<T>, ReadError> {
    each(conn, sql, |row| {
        let (key, body): (String, String) = (text(row, 0)?, text(row, 1)?);
        noun(table, &key, &body)
    })
}

fn each<T>(
    conn: &Connection,
    sql: &str,
    mut read: impl FnMut(&Row<'_>) -> Result<T, ReadError>,
) -> Result<Vec<T>, ReadError> {
    let mut statement = conn.prepare_cached(sql).map_err(unreadable)?;
    let mut rows = statement.query([]).map_err(unreadable)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(unreadable)? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn text(row: &Row<'_>, column: usize) -> Result<String, ReadError> {
    row.get(column).map_err(unreadable)
}

fn serials(conn: &Connection) -> Result<Vec<(TaskId, String, Timestamp)>, ReadError> {
    let sql = "SELECT s.task, s.serial, s.not_after FROM task t JOIN task_serial s ON s.task = t.id
               WHERE t.state NOT IN ('ended', 'denied') ORDER BY s.task, s.serial";
    each(conn, sql, |row| {
        let task = text(row, 0)?;
        let id = task.parse().map_err(|_| inconsistent("task_serial", &task))?;
        Ok((id, text(row, 1)?, Timestamp::from_millis(row.get(2).map_err(unreadable)?)))
    })
}

fn revoked_tokens(conn: &Connection) -> Result<Vec<(String, Timestamp)>, ReadError> {
    each(conn, "SELECT jti, expires_at FROM revoked_token ORDER BY jti", |row| {
        Ok((text(row, 0)?, Timestamp::from_millis(row.get(1).map_err(unreadable)?)))
    })
}

/// The signing keys alone: they are wanted before anything else is.
pub fn authorities(conn: &Connection) -> Result<Vec<AuthorityRow>, ReadError> {
    let sql = "SELECT id, use, state, sealed, public, created_at, not_after FROM authority ORDER BY created_at, id";
    each(conn, sql, |row| {
        let id = text(row, 0)?;
        let wrong = || inconsistent("authority", &id);
        Ok(AuthorityRow {
            key_use: read_key_use(&text(row, 1)?).ok_or_else(wrong)?,
            state: read_authority_state(&text(row, 2)?).ok_or_else(wrong)?,
            sealed: row.get(3).map_err(unreadable)?,
            public: row.get(4).map_err(unreadable)?,
            created_at: Timestamp::from_millis(row.get(5).map_err(unreadable)?),
            not_after: Timestamp::from_millis(row.get(6).map_err(unreadable)?),
            id,
        })
    })
}
