//! Writes: whole new states of rows. One arm for each variant of `Write`.

use super::error::Fault;
use crate::{
    rows::{authority_state, int, lease_state, task_state},
    unit::Put,
};
use server_core::ports::{Write, entry_fingerprint};
use sqlx::{Error, PgConnection};

/// Why a unit's write was not done.
#[derive(Debug)]
pub enum WriteError {
    Refused(Fault),
    Sql(Error),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

/// Applies one write.
pub async fn apply(conn: &mut PgConnection, put: &Put) -> Result<(), WriteError> {
    let body = put.body.as_str();
    let query = match &put.write {
        Write::Entry(noun) => sqlx::query(
            "INSERT INTO entry VALUES($1, $2, $3, $4) ON CONFLICT(id) DO UPDATE
             SET revision = excluded.revision, dedup = excluded.dedup, body = excluded.body",
        )
        .bind(noun.id.as_str())
        .bind(int(noun.revision))
        .bind(entry_fingerprint(noun).to_vec())
        .bind(body),
        Write::Node(noun) => sqlx::query(
            "INSERT INTO node VALUES($1, $2, $3, $4, $5) ON CONFLICT(id) DO UPDATE
             SET serial = excluded.serial, next_serial = excluded.next_serial, banned = excluded.banned,
                 body = excluded.body",
        )
        .bind(noun.id.to_string())
        .bind(&noun.serial)
        .bind(noun.next_serial.as_ref())
        .bind(noun.banned)
        .bind(body),
        Write::Task(noun) => sqlx::query(
            "INSERT INTO task VALUES($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT(id) DO UPDATE
             SET state = excluded.state, epoch = excluded.epoch, workload = excluded.workload,
                 \"user\" = excluded.\"user\", node = excluded.node, started_at = excluded.started_at,
                 body = excluded.body",
        )
        .bind(noun.id.to_string())
        .bind(task_state(noun.state))
        .bind(int(noun.epoch.0))
        .bind(noun.workload.to_string())
        .bind(noun.user.as_ref())
        .bind(noun.node.to_string())
        .bind(noun.started_at.as_millis())
        .bind(body),
        Write::Lease(noun) => sqlx::query(
            "INSERT INTO lease VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT(id) DO UPDATE
             SET task = excluded.task, target = excluded.target, name = excluded.name, kind = excluded.kind,
                 workload = excluded.workload, state = excluded.state, issued_at = excluded.issued_at,
                 body = excluded.body",
        )
        .bind(noun.id.to_string())
        .bind(noun.task_id.to_string())
        .bind(noun.role.target())
        .bind(noun.name.as_str())
        .bind(&noun.kind)
        .bind(noun.workload.to_string())
        .bind(lease_state(noun.state))
        .bind(noun.issued_at.as_millis())
        .bind(body),
        Write::Authority(row) => sqlx::query(
            "INSERT INTO authority VALUES($1, $2, $3, $4, $5, $6, $7) ON CONFLICT(id) DO UPDATE
             SET use = excluded.use, state = excluded.state, sealed = excluded.sealed, public = excluded.public,
                 created_at = excluded.created_at, not_after = excluded.not_after",
        )
        .bind(&row.id)
        .bind(row.key_use.as_str())
        .bind(authority_state(row.state))
        .bind(&row.sealed)
        .bind(&row.public)
        .bind(row.created_at.as_millis())
        .bind(row.not_after.as_millis()),
        Write::JoinToken(noun) => sqlx::query(
            "INSERT INTO join_token VALUES($1, $2, $3) ON CONFLICT(digest) DO UPDATE
             SET expires_at = excluded.expires_at, body = excluded.body",
        )
        .bind(&noun.digest)
        .bind(noun.expires_at.as_millis())
        .bind(body),
        Write::TaskSerial { task, serial, not_after } => sqlx::query(
            "INSERT INTO task_serial VALUES($1, $2, $3) ON CONFLICT(task, serial) DO UPDATE
             SET not_after = excluded.not_after",
        )
        .bind(task.to_string())
        .bind(serial)
        .bind(not_after.as_millis()),
        Write::RevokedToken { jti, expires_at } => sqlx::query(
            "INSERT INTO revoked_token VALUES($1, $2) ON CONFLICT(jti) DO UPDATE SET expires_at = excluded.expires_at",
        )
        .bind(jti)
        .bind(expires_at.as_millis()),
        Write::Target(noun) => {
            let sql = "INSERT INTO target VALUES($1, $2) ON CONFLICT(name) DO UPDATE SET body = excluded.body";
            sqlx::query(sql).bind(&noun.name).bind(body)
        }
        Write::Policy(noun) => {
            let sql = "INSERT INTO policy VALUES($1, $2) ON CONFLICT(id) DO UPDATE SET body = excluded.body";
            sqlx::query(sql).bind(&noun.id).bind(body)
        }
        Write::Hold(noun) => sqlx::query(
            "INSERT INTO hold VALUES($1, $2, $3) ON CONFLICT(id) DO UPDATE SET key = excluded.key, body = excluded.body",
        )
        .bind(noun.id.to_string())
        .bind(noun.scope.key())
        .bind(body),
        Write::DropEntry(id) => sqlx::query("DELETE FROM entry WHERE id = $1").bind(id.as_str()),
        Write::DropNode(id) => sqlx::query("DELETE FROM node WHERE id = $1").bind(id.to_string()),
        Write::DropAuthority(id) => sqlx::query("DELETE FROM authority WHERE id = $1").bind(id),
        Write::DropTarget(name) => sqlx::query("DELETE FROM target WHERE name = $1").bind(name),
        Write::DropPolicy(id) => sqlx::query("DELETE FROM policy WHERE id = $1").bind(id),
        Write::DropHold(id) => sqlx::query("DELETE FROM hold WHERE id = $1").bind(id.to_string()),
        Write::Redact(value) => sqlx::query("DELETE FROM journal_private WHERE position = $1 AND field = $2")
            .bind(int(value.position.0))
            .bind(value.field.as_str()),
        Write::Prune(before) => sqlx::query(
            "UPDATE journal_head SET start = $1
             WHERE start < $1 AND $1 <= (SELECT coalesce(max(size), 0) FROM journal_root)",
        )
        .bind(int(before.0)),
        Write::Fence { job, epoch, holder } => sqlx::query(
            "INSERT INTO job VALUES($1, $2, $3) ON CONFLICT(name) DO UPDATE
             SET epoch = excluded.epoch, holder = excluded.holder WHERE excluded.epoch > job.epoch",
        )
        .bind(*job)
        .bind(int(epoch.0))
        .bind(holder),
    };
    let done = query.execute(conn).await?.rows_affected();
    let refuse = |why: String| Err(WriteError::Refused(Fault::Contradiction(why)));
    match &put.write {
        Write::Prune(_) if done != 1 => refuse("the journal's start only rises, and not beyond its newest root".into()),
        Write::Fence { job, .. } if done != 1 => refuse(format!("the epoch of `{job}` only rises")),
        _ => Ok(()),
    }
}
