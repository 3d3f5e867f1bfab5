//! Guards, checked inside the transaction that depends on them.
//!
//! What is taken once is taken by a statement whose row count is looked at: under any race one wins.

use crate::rows::{int, lease_state};
use proto_types::Timestamp;
use rusqlite::{CachedStatement, Connection, Result, params};
use server_core::ports::{Claim, Guard};

fn exists(mut statement: CachedStatement<'_>, params: impl rusqlite::Params) -> Result<bool> {
    statement.exists(params)
}

/// Whether the guard holds; `now` is the time of the unit's first record.
pub fn holds(conn: &Connection, guard: &Guard, now: Timestamp) -> Result<bool> {
    match guard {
        Guard::Unclaimed(claim) => take(conn, claim),
        Guard::JoinToken(digest) => {
            let sql = "DELETE FROM join_token WHERE digest = ?1 AND expires_at > ?2";
            Ok(conn.prepare_cached(sql)?.execute(params![digest, now.as_millis()])? == 1)
        }
        Guard::TaskLive(id, epoch) => {
            let sql = "SELECT 1 FROM task WHERE id = ?1 AND state = 'active' AND epoch = ?2";
            exists(conn.prepare_cached(sql)?, params![id.to_string(), int(epoch.0)])
        }
        Guard::EntryAt(id, 0) => {
            let sql = "SELECT 1 FROM entry WHERE id = ?1";
            exists(conn.prepare_cached(sql)?, [id.as_str()]).map(|there| !there)
        }
        Guard::EntryAt(id, revision) => {
            let sql = "SELECT 1 FROM entry WHERE id = ?1 AND revision = ?2";
            exists(conn.prepare_cached(sql)?, params![id.as_str(), int(*revision)])
        }
        Guard::EntryUnique(id, fingerprint) => {
            let sql = "SELECT 1 FROM entry WHERE dedup = ?1 AND id <> ?2";
            exists(conn.prepare_cached(sql)?, params![fingerprint, id.as_str()]).map(|there| !there)
        }
        Guard::LeaseIn(id, state) => {
            let sql = "SELECT 1 FROM lease WHERE id = ?1 AND state = ?2";
            exists(conn.prepare_cached(sql)?, params![id.to_string(), lease_state(*state)])
        }
        Guard::TargetAt(name, revision) => {
            let sql = "SELECT 1 FROM target WHERE name = ?1 AND json_extract(body, '$.revision') = ?2";
            exists(conn.prepare_cached(sql)?, params![name, int(*revision)])
        }
        Guard::NodeSerial(id, serial) => {
            let sql = "SELECT 1 FROM node WHERE id = ?1 AND banned = 0 AND ?2 IN (serial, next_serial)";
            exists(conn.prepare_cached(sql)?, params![id.to_string(), serial])
        }
        Guard::NodeAs(id, serial, next) => {
            let sql = "SELECT 1 FROM node WHERE id = ?1 AND banned = 0 AND serial = ?2 AND next_serial IS ?3";
            exists(conn.prepare_cached(sql)?, params![id.to_string(), serial, next])
        }
        Guard::NoHold(keys) => nothing_holds(conn, keys),
        Guard::Held(id) => exists(conn.prepare_cached("SELECT 1 FROM hold WHERE id = ?1")?, [id.to_string()]),
        Guard::Private(value) => {
            let sql = "SELECT 1 FROM journal_private WHERE position = ?1 AND field = ?2";
            exists(conn.prepare_cached(sql)?, params![int(value.position.0), value.field.as_str()])
        }
        Guard::TokenUnrevoked(jti) => {
            let sql = "SELECT 1 FROM revoked_token WHERE jti = ?1";
            exists(conn.prepare_cached(sql)?, [jti]).map(|there| !there)
        }
        Guard::Fence(job, epoch) => {
            // A job that nobody ever held stands at 0.
            let sql = "SELECT coalesce((SELECT epoch FROM job WHERE name = ?1), 0) = ?2";
            conn.prepare_cached(sql)?.query_row(params![job, int(epoch.0)], |row| row.get(0))
        }
    }
}

/// Nearly always there is no hold at all, and that costs one look.
fn nothing_holds(conn: &Connection, keys: &[String]) -> Result<bool> {
    if !exists(conn.prepare_cached("SELECT 1 FROM hold LIMIT 1")?, [])? {
        return Ok(true);
    }
    for key in keys {
        if exists(conn.prepare_cached("SELECT 1 FROM hold WHERE key = ?1")?, [key])? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn take(conn: &Connection, claim: &Claim) -> Result<bool> {
    let sql = "INSERT INTO claim(kind, key, expires_at) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING";
    Ok(conn.prepare_cached(sql)?.execute(params![claim.kind, claim.key, claim.expires_at.as_millis()])? == 1)
}
