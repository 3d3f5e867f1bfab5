//! What is over and no longer in memory: tasks, leases, stored rows, roots. Lists page by the last id seen.

use super::{error::unreadable, feed, pruned};
use crate::{
    rows::{inconsistent, int, noun},
    shared::PAGE,
};
use proto_types::{CredentialName, JoinToken, Lease, LeaseId, Position, Task, TaskId};
use serde::de::DeserializeOwned;
use server_core::ports::{Filter, ReadError, StoredRecord, TreeRoot};
use sqlx::{Encode, PgConnection, Postgres, QueryBuilder, Type};

/// Stored rows as they lie there.
pub async fn stored(conn: &mut PgConnection, from: Position, max: u32) -> Result<Vec<StoredRecord>, ReadError> {
    let sql = "SELECT position, leaf, body FROM journal WHERE position >= $1 ORDER BY position LIMIT $2";
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(sql)
        .bind(int(from.0))
        .bind(i64::from(max.min(PAGE)))
        .fetch_all(&mut *conn)
        .await
        .map_err(unreadable)?;
    let positions: Vec<i64> = rows.iter().map(|(position, ..)| *position).collect();
    let mut beside = feed::private(conn, &positions).await?;
    pruned::refuse(conn, from).await?;
    let record = |(position, leaf, body): (i64, Vec<u8>, Vec<u8>)| {
        let wrong = || inconsistent("journal", position);
        Ok(StoredRecord {
            position: Position(u64::try_from(position).map_err(|_| wrong())?),
            leaf: leaf.try_into().map_err(|_| wrong())?,
            body,
            private: beside.remove(&position).unwrap_or_default(),
        })
    };
    rows.into_iter().map(record).collect()
}

/// Roots written down over more than `after` records, smallest first.
pub async fn roots(conn: &mut PgConnection, after: u64, max: u32) -> Result<Vec<TreeRoot>, ReadError> {
    let sql = "SELECT size, root FROM journal_root WHERE size > $1 ORDER BY size LIMIT $2";
    let rows = sqlx::query_as(sql).bind(int(after)).bind(i64::from(max.min(PAGE))).fetch_all(conn).await;
    rows.map_err(unreadable)?.into_iter().map(root).collect()
}

/// The newest.
pub async fn newest_root(conn: &mut PgConnection) -> Result<Option<TreeRoot>, ReadError> {
    let sql = "SELECT size, root FROM journal_root ORDER BY size DESC LIMIT 1";
    let row = sqlx::query_as(sql).fetch_optional(conn).await.map_err(unreadable)?;
    row.map(root).transpose()
}

fn root((size, root): (i64, Vec<u8>)) -> Result<TreeRoot, ReadError> {
    let wrong = || inconsistent("journal_root", size);
    Ok(TreeRoot { size: u64::try_from(size).map_err(|_| wrong())?, root: root.try_into().map_err(|_| wrong())? })
}

/// Tasks, newest first.
pub async fn tasks(
    conn: &mut PgConnection,
    f: &Filter,
    before: Option<TaskId>,
    max: u32,
) -> Result<Vec<Task>, ReadError> {
    let mut query = QueryBuilder::new("SELECT id, body FROM task WHERE true");
    if let Some(live) = f.live {
        query.push(if live { " AND state NOT IN ('ended', 'denied')" } else { " AND state IN ('ended', 'denied')" });
    }
    of_workload(&mut query, f);
    maybe(&mut query, " AND \"user\" = ", f.user.clone());
    maybe(&mut query, " AND node = ", f.node.clone());
    maybe(&mut query, " AND id = ", f.task.map(|t| t.to_string()));
    maybe(&mut query, " AND started_at >= ", f.from.map(|t| t.as_millis()));
    maybe(&mut query, " AND started_at <= ", f.to.map(|t| t.as_millis()));
    if let Some(target) = &f.target {
        // `json`, not `jsonb`: only what is taken out of it is read, and nobody's words stop it.
        query.push(" AND EXISTS(SELECT 1 FROM json_array_elements(body::json -> 'grants') g");
        query.push(" WHERE split_part(g ->> 'role', '/', 1) = ").push_bind(target.clone()).push(")");
    }
    if let Some(credential) = &f.credential {
        query.push(" AND id IN (SELECT task FROM lease WHERE ").push_bind(credential.clone()).push(" IN (id, name))");
    }
    page(conn, "task", query, before.map(|b| b.to_string()), max).await
}

/// Leases, newest first.
pub async fn leases(
    conn: &mut PgConnection,
    f: &Filter,
    before: Option<LeaseId>,
    max: u32,
) -> Result<Vec<Lease>, ReadError> {
    let mut query = QueryBuilder::new("SELECT id, body FROM lease WHERE true");
    if let Some(live) = f.live {
        query.push(if live { " AND state NOT IN " } else { " AND state IN " }).push("('revoked', 'expired', 'void')");
    }
    maybe(&mut query, " AND task = ", f.task.map(|t| t.to_string()));
    maybe(&mut query, " AND target = ", f.target.clone());
    of_workload(&mut query, f);
    maybe(&mut query, " AND kind = ", f.kind.clone());
    for column in ["user", "node"] {
        if let Some(value) = if column == "user" { &f.user } else { &f.node } {
            query.push(format_args!(" AND task IN (SELECT id FROM task WHERE \"{column}\" = "));
            query.push_bind(value.clone()).push(")");
        }
    }
    if let Some(credential) = &f.credential {
        query.push(" AND ").push_bind(credential.clone()).push(" IN (id, name)");
    }
    maybe(&mut query, " AND issued_at >= ", f.from.map(|t| t.as_millis()));
    maybe(&mut query, " AND issued_at <= ", f.to.map(|t| t.as_millis()));
    page(conn, "lease", query, before.map(|b| b.to_string()), max).await
}

/// One workload, or with `/*` at the end every one below it: what begins with the part before the star and goes on.
fn of_workload(query: &mut QueryBuilder<Postgres>, f: &Filter) {
    match f.workload.as_deref().map(|w| (w, w.strip_suffix('*').filter(|prefix| prefix.ends_with('/')))) {
        Some((_, Some(prefix))) => {
            query.push(" AND workload > ").push_bind(prefix.to_string());
            // `0` is the character behind `/`.
            query.push(" AND workload < ").push_bind(format!("{}0", prefix.trim_end_matches('/')));
        }
        Some((one, None)) => {
            query.push(" AND workload = ").push_bind(one.to_string());
        }
        None => {}
    }
}

/// Adds a condition when there is a value for it.
pub fn maybe<T>(query: &mut QueryBuilder<Postgres>, text: &str, value: Option<T>)
where
    T: for<'q> Encode<'q, Postgres> + Type<Postgres> + Send + 'static,
{
    if let Some(value) = value {
        query.push(text).push_bind(value);
    }
}

async fn page<T: DeserializeOwned>(
    conn: &mut PgConnection,
    table: &str,
    mut query: QueryBuilder<Postgres>,
    before: Option<String>,
    max: u32,
) -> Result<Vec<T>, ReadError> {
    maybe(&mut query, " AND id < ", before);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(max.min(PAGE)));
    let rows: Vec<(String, String)> = query.build_query_as().fetch_all(conn).await.map_err(unreadable)?;
    rows.into_iter().map(|(id, body)| noun(table, &id, &body)).collect()
}

async fn one<T: DeserializeOwned>(
    conn: &mut PgConnection,
    table: &str,
    sql: &'static str,
    keys: &[&str],
) -> Result<Option<T>, ReadError> {
    let mut query = sqlx::query_as::<_, (String, String)>(sql);
    for key in keys {
        query = query.bind(*key);
    }
    let row = query.fetch_optional(conn).await.map_err(unreadable)?;
    row.map(|(key, body)| noun(table, &key, &body)).transpose()
}

/// One task.
pub async fn task(conn: &mut PgConnection, id: TaskId) -> Result<Option<Task>, ReadError> {
    one(conn, "task", "SELECT id, body FROM task WHERE id = $1", &[&id.to_string()]).await
}

/// One lease.
pub async fn lease(conn: &mut PgConnection, id: LeaseId) -> Result<Option<Lease>, ReadError> {
    one(conn, "lease", "SELECT id, body FROM lease WHERE id = $1", &[&id.to_string()]).await
}

/// The lease of a credential.
pub async fn lease_named(
    conn: &mut PgConnection,
    target: &str,
    name: &CredentialName,
) -> Result<Option<Lease>, ReadError> {
    one(conn, "lease", "SELECT id, body FROM lease WHERE target = $1 AND name = $2", &[target, name.as_str()]).await
}

/// A join token that was not taken.
pub async fn join_token(conn: &mut PgConnection, digest: &str) -> Result<Option<JoinToken>, ReadError> {
    one(conn, "join_token", "SELECT digest, body FROM join_token WHERE digest = $1", &[digest]).await
}
