//! Records that are no longer kept: where the others begin, and the rows that still have to go.
//!
//! Decides nothing about who goes: a commit moved `start`, and from then on nobody reads before it. The rows follow in
//! steps as long as a group of commits. Their hashes stay in the tiles, and checkpoints that a witness signed stay.

use super::{error::unreadable, feed, proofs};
use crate::rows::{inconsistent, int};
use proto_types::Position;
use server_core::{
    journal::{self, Frontier},
    ports::ReadError,
};
use sqlx::{Connection as _, Error, PgConnection};

/// Rows deleted in one transaction.
const STEP: i64 = 256;

/// The position of the oldest record that is kept.
pub async fn start(conn: &mut PgConnection) -> Result<u64, Error> {
    let start: i64 = sqlx::query_scalar("SELECT start FROM journal_head").fetch_one(conn).await?;
    Ok(u64::try_from(start).unwrap_or(0))
}

/// Refuses what lies before it. Asked after the reading: rows that went meanwhile lie before it by then.
pub async fn refuse(conn: &mut PgConnection, from: Position) -> Result<(), ReadError> {
    let start = start(conn).await.map_err(unreadable)?;
    if from.0 < start { Err(ReadError::Pruned(Position(start))) } else { Ok(()) }
}

/// The tree over those that are not.
pub async fn tree(conn: &mut PgConnection) -> Result<Frontier, ReadError> {
    let start = start(conn).await.map_err(unreadable)?;
    Ok(proofs::edge(conn, start).await?.frontier())
}

/// What the newest record of its kind says; `None` when there is none.
pub async fn said(conn: &mut PgConnection) -> Result<Option<u64>, ReadError> {
    let sql = "SELECT j.position, j.body FROM journal_key k JOIN journal j ON j.position = k.position
               WHERE k.key = 'kind:journal.pruned' ORDER BY k.position DESC LIMIT 1";
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as(sql).fetch_optional(conn).await.map_err(unreadable)?;
    let Some((position, body)) = row else { return Ok(None) };
    let record = journal::decode(&body, &[]).map_err(|_| inconsistent("journal", position))?;
    Ok(journal::pruned_before(&record).map(|before| before.0))
}

/// Deletes the next rows before `start`. `true` when there may be more.
pub async fn sweep(conn: &mut PgConnection) -> Result<bool, Error> {
    let start = int(start(conn).await?);
    let mut step = conn.begin().await?;
    // Rows that another server is deleting are its own.
    let sql =
        "SELECT position, body FROM journal WHERE position < $1 ORDER BY position LIMIT $2 FOR UPDATE SKIP LOCKED";
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql).bind(start).bind(STEP).fetch_all(&mut *step).await?;
    let positions: Vec<i64> = rows.iter().map(|(position, _)| *position).collect();
    let mut beside = feed::private(&mut step, &positions).await.map_err(|e| Error::Protocol(e.to_string()))?;
    for (position, body) in &rows {
        match feed::decoded(*position, body, &mut beside) {
            Ok(record) => {
                let sql = "DELETE FROM journal_key WHERE key = ANY($1) AND position = $2";
                sqlx::query(sql).bind(journal::keys(&record)).bind(position).execute(&mut *step).await?;
            }
            // What it was found by cannot be told from it: all keys are looked through.
            Err(_) => {
                let sql = "DELETE FROM journal_key WHERE position = $1";
                sqlx::query(sql).bind(position).execute(&mut *step).await?;
            }
        }
    }
    sqlx::query("DELETE FROM journal_private WHERE position = ANY($1)").bind(&positions).execute(&mut *step).await?;
    sqlx::query("DELETE FROM journal WHERE position = ANY($1)").bind(&positions).execute(&mut *step).await?;
    let more = rows.len() as i64 == STEP;
    if !more {
        sqlx::query("DELETE FROM journal_root WHERE size < $1").bind(start).execute(&mut *step).await?;
        let sql = "DELETE FROM journal_note WHERE size < $1 AND NOT cosigned";
        sqlx::query(sql).bind(start).execute(&mut *step).await?;
    }
    step.commit().await?;
    Ok(more)
}
