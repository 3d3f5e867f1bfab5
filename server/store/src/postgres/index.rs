//! Which records have which key: a follower that is driven by position, so that a commit waits for nothing of it.
//!
//! Decides nothing about what is found: what is not in the index yet is read ([`super::search`]). A step
//! is long, so that its rows are sorted and its statements few. One server takes them, and another goes on where it stopped.

use super::{connect::Pool, duty::Table, error::unreadable, feed};
use crate::{
    rows::int,
    shared::{PAGE, Shared},
};
use proto_types::{Clock, Position, Record};
use server_core::{
    journal::{key_hash, keys},
    ports::{ReadError, Records},
};
use sqlx::{Error, PgConnection};
use std::{sync::Arc, time::Duration};

/// Records that one step takes; as many may always be missing.
pub const STEP: u64 = 1024;
const DUTY: &str = "index of the journal";
/// How long it waits after an error, and before it looks again whether the duty has come here.
const AGAIN: Duration = Duration::from_secs(2);

/// Goes on until the store is dropped. `duties` say which server does it.
pub async fn keep(pool: Arc<Pool>, shared: Arc<Shared>, duties: Arc<Table>, clock: Arc<dyn Clock>) {
    let mut size = shared.watch();
    let mut next = None;
    loop {
        if next.is_some_and(|next| *size.borrow_and_update() < next + STEP) {
            if size.changed().await.is_err() {
                return;
            }
            continue;
        }
        if !duties.holds(DUTY) {
            next = None;
            clock.sleep(AGAIN).await;
            continue;
        }
        match step(&pool, &shared, next).await {
            Ok(went) => next = Some(went),
            Err(error) => {
                tracing::warn!(%error, "the journal's index could not be written; trying again");
                next = None;
                clock.sleep(AGAIN).await;
            }
        }
    }
}

/// Where the index ends afterwards.
async fn step(pool: &Pool, shared: &Shared, next: Option<u64>) -> Result<u64, ReadError> {
    let mut held = pool.get().await?;
    let next = match next {
        Some(next) => next,
        None => end(&mut held).await.map_err(unreadable)?,
    };
    let next = next.max(shared.start());
    let went = match shared.size() < next + STEP {
        true => Ok(next),
        false => {
            let recent = |from, max| shared.recent(from, max);
            add(&mut held, next, &recent).await
        }
    };
    held.keep();
    went
}

/// From where on records are not in the index.
pub async fn end(conn: &mut PgConnection) -> Result<u64, Error> {
    let next: i64 = sqlx::query_scalar("SELECT next FROM journal_indexed").fetch_one(conn).await?;
    Ok(u64::try_from(next).unwrap_or(0))
}

/// Records that are in memory, when they are.
pub type Recent<'a> = &'a (dyn Fn(Position, u32) -> Option<Records> + Sync);

/// Records from `from` on, from memory or from the database.
pub async fn records(conn: &mut PgConnection, from: u64, max: u32, recent: Recent<'_>) -> Result<Records, ReadError> {
    match recent(Position(from), max) {
        Some(records) if !records.is_empty() => Ok(records),
        _ => Ok(feed::page(conn, Position(from), max).await?.0),
    }
}

/// Puts the records from `from` on into the index, a step at most. Where it ends then; another server may have moved it.
pub async fn add(conn: &mut PgConnection, from: u64, recent: Recent<'_>) -> Result<u64, ReadError> {
    let records = records(conn, from, u32::try_from(STEP).unwrap_or(PAGE), recent).await?;
    let mut found: Vec<(i64, i64)> = records.iter().flat_map(|(position, record)| pairs(*position, record)).collect();
    found.sort_unstable();
    found.dedup();
    let (keys, positions): (Vec<i64>, Vec<i64>) = found.into_iter().unzip();
    let to = from + records.len() as u64;
    let sql = "WITH moved AS (UPDATE journal_indexed SET next = $4 WHERE next <= $3 RETURNING next)
               INSERT INTO journal_found
                   SELECT key, position FROM moved, unnest($1::bigint[], $2::bigint[]) AS f(key, position)";
    let put = sqlx::query(sql).bind(keys).bind(positions).bind(int(from)).bind(int(to));
    put.execute(&mut *conn).await.map_err(unreadable)?;
    end(conn).await.map_err(unreadable)
}

fn pairs(position: Position, record: &Record) -> impl Iterator<Item = (i64, i64)> {
    keys(record).into_iter().map(move |key| (key_hash(&key), int(position.0)))
}
