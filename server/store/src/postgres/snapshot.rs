//! Everything a server holds in memory, read in one transaction.

use super::error::unreadable;
use crate::rows::{inconsistent, noun, read_authority_state, read_key_use};
use proto_types::{Position, Timestamp};
use serde::de::DeserializeOwned;
use server_core::ports::{AuthorityRow, ReadError, Snapshot};
use sqlx::PgConnection;

/// All of it; the transaction is the caller's.
pub async fn load(conn: &mut PgConnection) -> Result<Snapshot, ReadError> {
    let at: i64 =
        sqlx::query_scalar("SELECT size FROM journal_head").fetch_one(&mut *conn).await.map_err(unreadable)?;
    let live_leases = "SELECT id, body FROM lease WHERE state NOT IN ('revoked', 'expired', 'void') ORDER BY id";
    let live_tasks = "SELECT id, body FROM task WHERE state NOT IN ('ended', 'denied') ORDER BY id";
    Ok(Snapshot {
        at: Position(u64::try_from(at).unwrap_or(0)),
        entries: nouns(conn, "entry", "SELECT id, body FROM entry ORDER BY id").await?,
        nodes: nouns(conn, "node", "SELECT id, body FROM node ORDER BY id").await?,
        tasks: nouns(conn, "task", live_tasks).await?,
        serials: serials(conn).await?,
        leases: nouns(conn, "lease", live_leases).await?,
        revoked_tokens: revoked_tokens(conn).await?,
        authorities: authorities(conn).await?,
        targets: nouns(conn, "target", "SELECT name, body FROM target ORDER BY name").await?,
        policies: nouns(conn, "policy", "SELECT id, body FROM policy ORDER BY id").await?,
        holds: nouns(conn, "hold", "SELECT id, body FROM hold ORDER BY id").await?,
    })
}

async fn nouns<T: DeserializeOwned>(
    conn: &mut PgConnection,
    table: &str,
    sql: &'static str,
) -> Result<Vec<T>, ReadError> {
    let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(conn).await.map_err(unreadable)?;
    rows.into_iter().map(|(key, body)| noun(table, &key, &body)).collect()
}

async fn serials(conn: &mut PgConnection) -> Result<Vec<(proto_types::TaskId, String, Timestamp)>, ReadError> {
    let sql = "SELECT s.task, s.serial, s.not_after FROM task t JOIN task_serial s ON s.task = t.id
               WHERE t.state NOT IN ('ended', 'denied') ORDER BY s.task, s.serial";
    let rows: Vec<(String, String, i64)> = sqlx::query_as(sql).fetch_all(conn).await.map_err(unreadable)?;
    let read = |(task, serial, not_after): (String, String, i64)| {
        let id = task.parse().map_err(|_| inconsistent("task_serial", &task))?;
        Ok((id, serial, Timestamp::from_millis(not_after)))
    };
    rows.into_iter().map(read).collect()
}

async fn revoked_tokens(conn: &mut PgConnection) -> Result<Vec<(String, Timestamp)>, ReadError> {
    let sql = "SELECT jti, expires_at FROM revoked_token ORDER BY jti";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(conn).await.map_err(unreadable)?;
    Ok(rows.into_iter().map(|(jti, end)| (jti, Timestamp::from_millis(end))).collect())
}

/// The signing keys alone: they are wanted before anything else is.
pub async fn authorities(conn: &mut PgConnection) -> Result<Vec<AuthorityRow>, ReadError> {
    type Row = (String, String, String, Vec<u8>, Vec<u8>, i64, i64);
    let sql = "SELECT id, use, state, sealed, public, created_at, not_after FROM authority ORDER BY created_at, id";
    let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(conn).await.map_err(unreadable)?;
    let read = |(id, key_use, state, sealed, public, created_at, not_after): Row| {
        let wrong = || inconsistent("authority", &id);
        Ok(AuthorityRow {
            key_use: read_key_use(&key_use).ok_or_else(wrong)?,
            state: read_authority_state(&state).ok_or_else(wrong)?,
            sealed,
            public,
            created_at: Timestamp::from_millis(created_at),
            not_after: Timestamp::from_millis(not_after),
            id,
        })
    };
    rows.into_iter().map(read).collect()
}
