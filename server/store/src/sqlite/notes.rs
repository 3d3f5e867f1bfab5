//! Signed checkpoints, each beside the root it signs.

use super::error::unreadable;
use crate::{
    rows::{inconsistent, int},
    shared::PAGE,
};
use rusqlite::{Connection, OptionalExtension, Params, params};
use server_core::{journal::SignedNote, ports::ReadError};

/// The signed checkpoint over `size` records gets what signatures `note` has besides; the first is kept as it is.
pub fn keep(conn: &Connection, size: u64, note: SignedNote, witness: bool) -> rusqlite::Result<()> {
    let there: Option<String> =
        conn.query_row("SELECT note FROM journal_note WHERE size = ?1", [int(size)], |row| row.get(0)).optional()?;
    let mut kept = there.and_then(|text| text.parse::<SignedNote>().ok()).unwrap_or_else(|| note.clone());
    let note = if kept.join(note.clone()) { kept } else { note };
    let sql = "INSERT INTO journal_note VALUES(?1, ?2, ?3)
               ON CONFLICT(size) DO UPDATE SET note = excluded.note, cosigned = max(cosigned, excluded.cosigned)";
    conn.prepare_cached(sql)?.execute(params![int(size), note.to_string(), witness]).map(|_| ())
}

/// The newest.
pub fn newest(conn: &Connection) -> Result<Option<SignedNote>, ReadError> {
    Ok(read(conn, "SELECT size, note FROM journal_note ORDER BY size DESC LIMIT 1", [])?.pop())
}

/// The newest that a witness signed, too.
pub fn witnessed(conn: &Connection) -> Result<Option<SignedNote>, ReadError> {
    let sql = "SELECT size, note FROM journal_note WHERE cosigned = 1 ORDER BY size DESC LIMIT 1";
    Ok(read(conn, sql, [])?.pop())
}

/// The one over `size` records.
pub fn over(conn: &Connection, size: u64) -> Result<Option<SignedNote>, ReadError> {
    Ok(read(conn, "SELECT size, note FROM journal_note WHERE size = ?1", [int(size)])?.pop())
}

/// Those over more than `after` records, smallest first.
pub fn after(conn: &Connection, after: u64, max: u32) -> Result<Vec<SignedNote>, ReadError> {
    let sql = "SELECT size, note FROM journal_note WHERE size > ?1 ORDER BY size LIMIT ?2";
    read(conn, sql, (int(after), max.min(PAGE)))
}

fn read(conn: &Connection, sql: &str, values: impl Params) -> Result<Vec<SignedNote>, ReadError> {
    let rows = conn.prepare_cached(sql).and_then(|mut statement| {
        let rows = statement.query_map(values, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    });
    let note = |(size, text): (i64, String)| text.parse().map_err(|_| inconsistent("journal_note", size));
    rows.map_err(unreadable)?.into_iter().map(note).collect()
}
