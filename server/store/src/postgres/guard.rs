//! Guards, checked inside the transaction that depends on them and behind the lock on the head: nobody commits between.
//!
//! What is taken once is taken by a statement whose row count is looked at.

use crate::rows::{int, lease_state};
use proto_types::Timestamp;
use server_core::ports::{Claim, Guard};
use sqlx::{PgConnection, Postgres, Result, query::Query, query_scalar};

type Asked<'q> = Query<'q, Postgres, sqlx::postgres::PgArguments>;

async fn exists(conn: &mut PgConnection, query: Asked<'_>) -> Result<bool> {
    Ok(query.fetch_optional(conn).await?.is_some())
}

/// Whether it must be undone when the unit is refused later.
pub fn takes(guard: &Guard) -> bool {
    matches!(guard, Guard::Unclaimed(_) | Guard::JoinToken(_))
}

/// Whether the guard holds; `now` is the time of the unit's first record.
pub async fn holds(conn: &mut PgConnection, guard: &Guard, now: Timestamp) -> Result<bool> {
    let ask = |sql: &'static str| sqlx::query(sql);
    match guard {
        Guard::Unclaimed(claim) => take(conn, claim).await,
        Guard::JoinToken(digest) => {
            let sql = "DELETE FROM join_token WHERE digest = $1 AND expires_at > $2";
            Ok(ask(sql).bind(digest).bind(now.as_millis()).execute(conn).await?.rows_affected() == 1)
        }
        Guard::TaskLive(id, epoch) => {
            let sql = "SELECT 1 FROM task WHERE id = $1 AND state = 'active' AND epoch = $2";
            exists(conn, ask(sql).bind(id.to_string()).bind(int(epoch.0))).await
        }
        Guard::EntryAt(id, 0) => Ok(!exists(conn, ask("SELECT 1 FROM entry WHERE id = $1").bind(id.as_str())).await?),
        Guard::EntryAt(id, revision) => {
            let sql = "SELECT 1 FROM entry WHERE id = $1 AND revision = $2";
            exists(conn, ask(sql).bind(id.as_str()).bind(int(*revision))).await
        }
        Guard::EntryUnique(id, fingerprint) => {
            let sql = "SELECT 1 FROM entry WHERE dedup = $1 AND id <> $2";
            Ok(!exists(conn, ask(sql).bind(fingerprint.as_slice()).bind(id.as_str())).await?)
        }
        Guard::LeaseIn(id, state) => {
            let sql = "SELECT 1 FROM lease WHERE id = $1 AND state = $2";
            exists(conn, ask(sql).bind(id.to_string()).bind(lease_state(*state))).await
        }
        Guard::TargetAt(name, revision) => {
            let sql = "SELECT 1 FROM target WHERE name = $1 AND (body::json ->> 'revision')::bigint = $2";
            exists(conn, ask(sql).bind(name).bind(int(*revision))).await
        }
        Guard::NodeSerial(id, serial) => {
            let sql = "SELECT 1 FROM node WHERE id = $1 AND NOT banned AND $2 IN (serial, next_serial)";
            exists(conn, ask(sql).bind(id.to_string()).bind(serial)).await
        }
        Guard::NodeAs(id, serial, next) => {
            let sql = "SELECT 1 FROM node WHERE id = $1 AND NOT banned AND serial = $2
                       AND next_serial IS NOT DISTINCT FROM $3";
            exists(conn, ask(sql).bind(id.to_string()).bind(serial).bind(next)).await
        }
        Guard::NoHold(keys) => {
            Ok(!exists(conn, ask("SELECT 1 FROM hold WHERE key = ANY($1) LIMIT 1").bind(keys)).await?)
        }
        Guard::Held(id) => exists(conn, ask("SELECT 1 FROM hold WHERE id = $1").bind(id.to_string())).await,
        Guard::Private(value) => {
            let sql = "SELECT 1 FROM journal_private WHERE position = $1 AND field = $2";
            exists(conn, ask(sql).bind(int(value.position.0)).bind(value.field.as_str())).await
        }
        Guard::TokenUnrevoked(jti) => {
            Ok(!exists(conn, ask("SELECT 1 FROM revoked_token WHERE jti = $1").bind(jti)).await?)
        }
        Guard::Fence(job, epoch) => {
            // A job that nobody ever held stands at 0.
            let sql = "SELECT coalesce((SELECT epoch FROM job WHERE name = $1), 0) = $2";
            query_scalar(sql).bind(*job).bind(int(epoch.0)).fetch_one(conn).await
        }
    }
}

async fn take(conn: &mut PgConnection, claim: &Claim) -> Result<bool> {
    let sql = "INSERT INTO claim(kind, key, expires_at) VALUES($1, $2, $3) ON CONFLICT DO NOTHING";
    let taken = sqlx::query(sql).bind(claim.kind).bind(claim.key.as_slice()).bind(claim.expires_at.as_millis());
    Ok(taken.execute(conn).await?.rows_affected() == 1)
}
