//! Signed checkpoints, each beside the root it signs; and where each sink of the journal stands, and each singleton job.

use super::error::{unreadable, unwritten};
use crate::{
    rows::{inconsistent, int},
    shared::PAGE,
};
use proto_types::{Epoch, Position};
use server_core::{
    journal::SignedNote,
    ports::{CommitError, ReadError},
};
use sqlx::{Error, PgConnection};

/// The signed checkpoint over `size` records gets what signatures `note` has besides; the first is kept as it is.
/// Within a transaction of the caller's.
pub async fn keep(conn: &mut PgConnection, size: u64, note: SignedNote, witness: bool) -> Result<(), Error> {
    let asked = sqlx::query_scalar("SELECT note FROM journal_note WHERE size = $1 FOR UPDATE").bind(int(size));
    let there: Option<String> = asked.fetch_optional(&mut *conn).await?;
    let mut kept = there.and_then(|text| text.parse::<SignedNote>().ok()).unwrap_or_else(|| note.clone());
    let note = if kept.join(note.clone()) { kept } else { note };
    let sql = "INSERT INTO journal_note VALUES($1, $2, $3) ON CONFLICT(size) DO UPDATE
               SET note = excluded.note, cosigned = journal_note.cosigned OR excluded.cosigned";
    sqlx::query(sql).bind(int(size)).bind(note.to_string()).bind(witness).execute(conn).await.map(drop)
}

/// The newest.
pub async fn newest(conn: &mut PgConnection) -> Result<Option<SignedNote>, ReadError> {
    let sql = "SELECT size, note FROM journal_note ORDER BY size DESC LIMIT 1";
    one(sqlx::query_as(sql).fetch_optional(conn).await)
}

/// The newest that a witness signed, too.
pub async fn witnessed(conn: &mut PgConnection) -> Result<Option<SignedNote>, ReadError> {
    let sql = "SELECT size, note FROM journal_note WHERE cosigned ORDER BY size DESC LIMIT 1";
    one(sqlx::query_as(sql).fetch_optional(conn).await)
}

/// The one over `size` records.
pub async fn over(conn: &mut PgConnection, size: u64) -> Result<Option<SignedNote>, ReadError> {
    let sql = "SELECT size, note FROM journal_note WHERE size = $1";
    one(sqlx::query_as(sql).bind(int(size)).fetch_optional(conn).await)
}

/// Those over more than `after` records, smallest first.
pub async fn after(conn: &mut PgConnection, after: u64, max: u32) -> Result<Vec<SignedNote>, ReadError> {
    let sql = "SELECT size, note FROM journal_note WHERE size > $1 ORDER BY size LIMIT $2";
    let rows = sqlx::query_as(sql).bind(int(after)).bind(i64::from(max.min(PAGE))).fetch_all(conn).await;
    rows.map_err(unreadable)?.into_iter().map(read).collect()
}

fn one(row: Result<Option<(i64, String)>, Error>) -> Result<Option<SignedNote>, ReadError> {
    row.map_err(unreadable)?.map(read).transpose()
}

fn read((size, text): (i64, String)) -> Result<SignedNote, ReadError> {
    text.parse().map_err(|_| inconsistent("journal_note", size))
}

/// The next position that a sink wants.
pub async fn cursor(conn: &mut PgConnection, sink: &str) -> Result<Option<Position>, ReadError> {
    let asked = sqlx::query_scalar("SELECT next FROM sink_cursor WHERE name = $1").bind(sink);
    let next: Option<i64> = asked.fetch_optional(conn).await.map_err(unreadable)?;
    Ok(next.map(|next| Position(u64::try_from(next).unwrap_or(0))))
}

/// Remembers it; it never goes back, whichever server forwards.
pub async fn keep_cursor(conn: &mut PgConnection, sink: &str, next: Position) -> Result<(), CommitError> {
    let sql = "INSERT INTO sink_cursor VALUES($1, $2) ON CONFLICT(name) DO UPDATE
               SET next = greatest(sink_cursor.next, excluded.next)";
    sqlx::query(sql).bind(sink).bind(int(next.0)).execute(conn).await.map(drop).map_err(unwritten)
}

/// The epoch of a singleton job.
pub async fn fence(conn: &mut PgConnection, job: &str) -> Result<Epoch, ReadError> {
    let asked = sqlx::query_scalar("SELECT epoch FROM job WHERE name = $1").bind(job);
    let epoch: Option<i64> = asked.fetch_optional(conn).await.map_err(unreadable)?;
    Ok(Epoch(epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0)))
}
