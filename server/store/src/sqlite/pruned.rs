//! Records that are no longer kept: where the others begin, and the rows that still have to go.
//!
//! Decides nothing about who goes: a commit moved `start`, and from then on nobody reads before it. The rows follow in
//! steps as long as a group of commits. Their hashes stay in the tiles, and checkpoints that a witness signed stay.

use super::{error::unreadable, proofs, rows::private};
use crate::rows::{inconsistent, int};
use proto_types::Position;
use rusqlite::{Connection, OptionalExtension, params};
use server_core::{
    journal::{self, Frontier},
    ports::ReadError,
};

/// Rows deleted in one transaction.
const STEP: u32 = 256;

/// The position of the oldest record that is kept.
pub fn start(conn: &Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT start FROM journal_head")?.query_row([], |row| row.get(0))
}

/// Refuses what lies before it. Asked after the reading: rows that went meanwhile lie before it by then.
pub fn refuse(conn: &Connection, from: Position) -> Result<(), ReadError> {
    let start = start(conn).map_err(unreadable)?;
    if from.0 < start { Err(ReadError::Pruned(Position(start))) } else { Ok(()) }
}

/// The tree over those that are not.
pub fn tree(conn: &Connection) -> Result<Frontier, ReadError> {
    Ok(proofs::edge(conn, start(conn).map_err(unreadable)?)?.frontier())
}

/// What the newest record of its kind says; `None` when there is none.
pub fn said(conn: &Connection) -> Result<Option<u64>, ReadError> {
    let sql = "SELECT j.position, j.body FROM journal_key k JOIN journal j ON j.position = k.position
               WHERE k.key = 'kind:journal.pruned' ORDER BY k.position DESC LIMIT 1";
    let row: Option<(u64, Vec<u8>)> =
        conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional().map_err(unreadable)?;
    let Some((position, body)) = row else { return Ok(None) };
    let record = journal::decode(&body, &[]).map_err(|_| inconsistent("journal", position))?;
    Ok(journal::pruned_before(&record).map(|before| before.0))
}

/// Deletes the next rows before `start`. `true` when there may be more.
pub fn sweep(conn: &Connection) -> rusqlite::Result<bool> {
    let start = int(start(conn)?);
    let step = conn.unchecked_transaction()?;
    let rows = {
        let sql = "SELECT position, body FROM journal WHERE position < ?1 ORDER BY position LIMIT ?2";
        let mut statement = step.prepare_cached(sql)?;
        let rows = statement.query_map(params![start, STEP], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(u64, Vec<u8>)>>>()?
    };
    for (position, body) in &rows {
        forget(&step, Position(*position), body)?;
    }
    let more = rows.len() == STEP as usize;
    if !more {
        step.execute("DELETE FROM journal_root WHERE size < ?1", [start])?;
        step.execute("DELETE FROM journal_note WHERE size < ?1 AND cosigned = 0", [start])?;
    }
    step.commit()?;
    Ok(more)
}

fn forget(conn: &Connection, position: Position, body: &[u8]) -> rusqlite::Result<()> {
    let values = private(conn, position)?;
    let position = int(position.0);
    match journal::decode(body, &values) {
        Ok(record) => {
            let mut key = conn.prepare_cached("DELETE FROM journal_key WHERE key = ?1 AND position = ?2")?;
            for name in journal::keys(&record) {
                key.execute(params![name, position])?;
            }
        }
        // What it was found by cannot be told from it: all keys are looked through.
        Err(_) => drop(conn.execute("DELETE FROM journal_key WHERE position = ?1", [position])?),
    }
    conn.prepare_cached("DELETE FROM journal_private WHERE position = ?1")?.execute([position])?;
    conn.prepare_cached("DELETE FROM journal WHERE position = ?1")?.execute([position])?;
    Ok(())
}
