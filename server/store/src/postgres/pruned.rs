//! Records that are no longer kept: where the others begin, and the rows that still have to go.
//!
//! Decides nothing about who goes: a commit moved `start`, and from then on nobody reads before it. The rows follow in
//! steps as long as a group of commits. Their hashes stay in the tiles, and checkpoints that a witness signed stay.

use super::{error::unreadable, feed, proofs, search};
use crate::rows::int;
use proto_types::Position;
use server_core::{
    journal::{self, Frontier},
    ports::{Filter, ReadError},
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
    let filter = Filter { kind: Some("journal.pruned".into()), ..Filter::default() };
    let newest = search::search(conn, &filter, None, 1, &|_, _| None).await?;
    Ok(newest.first().and_then(|(_, record)| journal::pruned_before(record)).map(|before| before.0))
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
                let sql = "DELETE FROM journal_found WHERE key = ANY($1) AND position = $2";
                let keys: Vec<i64> = journal::keys(&record).iter().map(|key| journal::key_hash(key)).collect();
                sqlx::query(sql).bind(keys).bind(position).execute(&mut *step).await?;
            }
            // What it was found by cannot be told from it: all keys are looked through.
            Err(_) => {
                let sql = "DELETE FROM journal_found WHERE position = $1";
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
