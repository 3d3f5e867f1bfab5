//! Writes: whole new states of rows. One arm for each variant of `Write`.

use super::error::Fault;
use crate::{
    rows::{authority_state, int, lease_state, task_state},
    unit::Put,
};
use proto_types::{Entry, Lease, Node, Task};
use rusqlite::{Connection, params};
use server_core::ports::{AuthorityRow, Write, entry_fingerprint};

pub fn apply(put: &Put, conn: &Connection) -> Result<(), WriteError> {
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| conn.prepare_cached(sql)?.execute(params);
    let body = &put.body;
    match &put.write {
        Write::Entry(noun) => entry(conn, noun, body)?,
        Write::Node(noun) => node(conn, noun, body)?,
        Write::Task(noun) => task(conn, noun, body)?,
        Write::Lease(noun) => lease(conn, noun, body)?,
        Write::Authority(row) => authority(conn, row)?,
        Write::JoinToken(noun) => run(
            "INSERT OR REPLACE INTO join_token VALUES(?1, ?2, ?3)",
            params![noun.digest, noun.expires_at.as_millis(), body],
        )?,
        Write::TaskSerial { task, serial, not_after } => run(
            "INSERT OR REPLACE INTO task_serial VALUES(?1, ?2, ?3)",
            params![task.to_string(), serial, not_after.as_millis()],
        )?,
        Write::RevokedToken { jti, expires_at } => {
            run("INSERT OR REPLACE INTO revoked_token VALUES(?1, ?2)", params![jti, expires_at.as_millis()])?
        }
        Write::Target(noun) => run("INSERT OR REPLACE INTO target VALUES(?1, ?2)", params![noun.name, body])?,
        Write::Policy(noun) => run("INSERT OR REPLACE INTO policy VALUES(?1, ?2)", params![noun.id, body])?,
        Write::Hold(noun) => {
            let sql = "INSERT OR REPLACE INTO hold VALUES(?1, ?2, ?3)";
            run(sql, params![noun.id.to_string(), noun.scope.key(), body])?
        }
        Write::DropEntry(id) => run("DELETE FROM entry WHERE id = ?1", params![id.as_str()])?,
        Write::DropNode(id) => run("DELETE FROM node WHERE id = ?1", params![id.to_string()])?,
        Write::DropAuthority(id) => run("DELETE FROM authority WHERE id = ?1", params![id])?,
        Write::DropTarget(name) => run("DELETE FROM target WHERE name = ?1", params![name])?,
        Write::DropPolicy(id) => run("DELETE FROM policy WHERE id = ?1", params![id])?,
        Write::DropHold(id) => run("DELETE FROM hold WHERE id = ?1", params![id.to_string()])?,
        Write::Redact(value) => {
            let sql = "DELETE FROM journal_private WHERE position = ?1 AND field = ?2";
            run(sql, params![int(value.position.0), value.field.as_str()])?
        }
        Write::Prune(before) => {
            let sql = "UPDATE journal_head SET start = ?1
                       WHERE start < ?1 AND ?1 <= (SELECT coalesce(max(size), 0) FROM journal_root)";
            let moved = run(sql, params![int(before.0)])?;
            if moved != 1 {
                let why = "the journal's start only rises, and not beyond its newest root";
                return Err(WriteError::Refused(Fault::Contradiction(why.into())));
            }
            moved
        }
        Write::Fence { job, epoch, holder } => {
            let sql = "INSERT INTO job VALUES(?1, ?2, ?3) ON CONFLICT(name) DO UPDATE
                       SET epoch = excluded.epoch, holder = excluded.holder WHERE excluded.epoch > job.epoch";
            let raised = run(sql, params![job, int(epoch.0), holder])?;
            if raised != 1 {
                return Err(WriteError::Refused(Fault::Contradiction(format!("the epoch of `{job}` only rises"))));
            }
            raised
        }
    };
    Ok(())
}

/// Why a unit's write was not done.
#[derive(Debug)]
pub enum WriteError {
    Refused(Fault),
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

// `INSERT … ON CONFLICT(key) DO UPDATE`, never `OR REPLACE`, where a second unique column stands: replacing would
// silently drop the other row.

fn entry(conn: &Connection, noun: &Entry, body: &str) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO entry VALUES(?1, ?2, ?3, ?4) ON CONFLICT(id) DO UPDATE
               SET revision = excluded.revision, dedup = excluded.dedup, body = excluded.body";
    let dedup = entry_fingerprint(noun);
    conn.prepare_cached(sql)?.execute(params![noun.id.as_str(), int(noun.revision), dedup, body])
}

fn node(conn: &Connection, noun: &Node, body: &str) -> rusqlite::Result<usize> {
    let sql = "INSERT OR REPLACE INTO node VALUES(?1, ?2, ?3, ?4, ?5)";
    conn.prepare_cached(sql)?.execute(params![noun.id.to_string(), noun.serial, noun.next_serial, noun.banned, body])
}

fn task(conn: &Connection, noun: &Task, body: &str) -> rusqlite::Result<usize> {
    let sql = "INSERT OR REPLACE INTO task VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    conn.prepare_cached(sql)?.execute(params![
        noun.id.to_string(),
        task_state(noun.state),
        int(noun.epoch.0),
        noun.workload.to_string(),
        noun.user,
        noun.node.to_string(),
        noun.started_at.as_millis(),
        body
    ])
}

fn lease(conn: &Connection, noun: &Lease, body: &str) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO lease VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT(id) DO UPDATE
               SET task = excluded.task, target = excluded.target, name = excluded.name, kind = excluded.kind,
                   workload = excluded.workload, state = excluded.state, issued_at = excluded.issued_at,
                   body = excluded.body";
    conn.prepare_cached(sql)?.execute(params![
        noun.id.to_string(),
        noun.task_id.to_string(),
        noun.role.target(),
        noun.name.as_str(),
        noun.kind,
        noun.workload.to_string(),
        lease_state(noun.state),
        noun.issued_at.as_millis(),
        body
    ])
}

fn authority(conn: &Connection, row: &AuthorityRow) -> rusqlite::Result<usize> {
    let sql = "INSERT OR REPLACE INTO authority VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    conn.prepare_cached(sql)?.execute(params![
        row.id,
        row.key_use.as_str(),
        authority_state(row.state),
        row.sealed,
        row.public,
        row.created_at.as_millis(),
        row.not_after.as_millis()
    ])
}
