//! What is over and no longer in memory: tasks, leases, stored rows, roots. Lists page by the last id seen.

use super::{error::unreadable, pruned, rows::private, search::Query};
use crate::compare::Kept;
use crate::{
    rows::{int, noun},
    shared::PAGE,
};
use proto_types::{CredentialName, JoinToken, Lease, LeaseId, Position, Task, TaskId};
use rusqlite::{Connection, OptionalExtension, ToSql, params, params_from_iter};
use serde::de::DeserializeOwned;
use server_core::ports::{Filter, ReadError, StoredRecord, TreeRoot};

/// The records from `from` to `to`, exclusive, that are there.
pub fn kept(conn: &Connection, from: u64, to: u64) -> rusqlite::Result<Vec<(u64, Kept)>> {
    let mut statement =
        conn.prepare_cached("SELECT position, leaf, body FROM journal WHERE position >= ?1 AND position < ?2")?;
    let rows = statement
        .query_map((int(from), int(to)), |row| Ok((row.get(0)?, Kept { leaf: row.get(1)?, body: row.get(2)? })))?;
    rows.collect()
}

pub fn stored(conn: &Connection, from: Position, max: u32) -> Result<Vec<StoredRecord>, ReadError> {
    let read = || {
        let sql = "SELECT position, leaf, body FROM journal WHERE position >= ?1 ORDER BY position LIMIT ?2";
        let mut statement = conn.prepare_cached(sql)?;
        let rows = statement.query_map((int(from.0), max.min(PAGE)), |row| {
            let position = Position(row.get(0)?);
            Ok(StoredRecord { position, leaf: row.get(1)?, body: row.get(2)?, private: private(conn, position)? })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows = read().map_err(unreadable)?;
    pruned::refuse(conn, from)?;
    Ok(rows)
}

/// Roots written down over more than `after` records, smallest first.
pub fn roots(conn: &Connection, after: u64, max: u32) -> Result<Vec<TreeRoot>, ReadError> {
    let read = || {
        let mut statement =
            conn.prepare_cached("SELECT size, root FROM journal_root WHERE size > ?1 ORDER BY size LIMIT ?2")?;
        let rows = statement
            .query_map((int(after), max.min(PAGE)), |row| Ok(TreeRoot { size: row.get(0)?, root: row.get(1)? }))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(unreadable)
}

pub fn newest_root(conn: &Connection) -> Result<Option<TreeRoot>, ReadError> {
    conn.query_row("SELECT size, root FROM journal_root ORDER BY size DESC LIMIT 1", [], |row| {
        Ok(TreeRoot { size: row.get(0)?, root: row.get(1)? })
    })
    .optional()
    .map_err(unreadable)
}

pub fn tasks(conn: &Connection, f: &Filter, before: Option<TaskId>, max: u32) -> Result<Vec<Task>, ReadError> {
    let mut query = Query::new("SELECT id, body FROM task WHERE 1");
    if let Some(live) = f.live {
        query.add(if live { " AND state NOT IN ('ended', 'denied')" } else { " AND state IN ('ended', 'denied')" }, []);
    }
    of_workload(&mut query, f);
    maybe(&mut query, " AND user = ?", f.user.clone());
    maybe(&mut query, " AND node = ?", f.node.clone());
    maybe(&mut query, " AND id = ?", f.task.map(|t| t.to_string()));
    maybe(&mut query, " AND started_at >= ?", f.from.map(|t| t.as_millis()));
    maybe(&mut query, " AND started_at <= ?", f.to.map(|t| t.as_millis()));
    let granted = " AND EXISTS(SELECT 1 FROM json_each(task.body, '$.grants') g
                    WHERE substr(g.value ->> 'role', 1, instr(g.value ->> 'role', '/') - 1) = ?)";
    maybe(&mut query, granted, f.target.clone());
    maybe(&mut query, " AND id IN (SELECT task FROM lease WHERE ? IN (id, name))", f.credential.clone());
    page(conn, "task", query, before.map(|b| b.to_string()), max)
}

pub fn leases(conn: &Connection, f: &Filter, before: Option<LeaseId>, max: u32) -> Result<Vec<Lease>, ReadError> {
    let mut query = Query::new("SELECT id, body FROM lease WHERE 1");
    if let Some(live) = f.live {
        let sql = if live {
            " AND state NOT IN ('revoked', 'expired', 'void')"
        } else {
            " AND state IN ('revoked', 'expired', 'void')"
        };
        query.add(sql, []);
    }
    maybe(&mut query, " AND task = ?", f.task.map(|t| t.to_string()));
    maybe(&mut query, " AND target = ?", f.target.clone());
    of_workload(&mut query, f);
    maybe(&mut query, " AND kind = ?", f.kind.clone());
    maybe(&mut query, " AND ? IN (id, name)", f.credential.clone());
    maybe(&mut query, " AND task IN (SELECT id FROM task WHERE user = ?)", f.user.clone());
    maybe(&mut query, " AND task IN (SELECT id FROM task WHERE node = ?)", f.node.clone());
    maybe(&mut query, " AND issued_at >= ?", f.from.map(|t| t.as_millis()));
    maybe(&mut query, " AND issued_at <= ?", f.to.map(|t| t.as_millis()));
    page(conn, "lease", query, before.map(|b| b.to_string()), max)
}

/// One workload, or with `/*` at the end every one below it: what begins with the part before the star and goes on.
fn of_workload(query: &mut Query, f: &Filter) {
    match f.workload.as_deref().map(|w| (w, w.strip_suffix('*').filter(|prefix| prefix.ends_with('/')))) {
        Some((_, Some(prefix))) => {
            query.with(" AND workload > ?", prefix.to_string());
            // `0` is the character behind `/`.
            query.with(" AND workload < ?", format!("{}0", prefix.trim_end_matches('/')));
        }
        Some((one, None)) => query.with(" AND workload = ?", one.to_string()),
        None => {}
    }
}

fn maybe(query: &mut Query, text: &str, value: Option<impl ToSql + 'static>) {
    if let Some(value) = value {
        query.with(text, value);
    }
}

fn page<T: DeserializeOwned>(
    conn: &Connection,
    table: &str,
    mut query: Query,
    before: Option<String>,
    max: u32,
) -> Result<Vec<T>, ReadError> {
    maybe(&mut query, " AND id < ?", before);
    query.with(" ORDER BY id DESC LIMIT ?", max.min(PAGE));
    let mut statement = conn.prepare(&query.text).map_err(unreadable)?;
    let mut rows = statement.query(params_from_iter(query.values)).map_err(unreadable)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(unreadable)? {
        let (id, body): (String, String) = (row.get(0).map_err(unreadable)?, row.get(1).map_err(unreadable)?);
        found.push(noun(table, &id, &body)?);
    }
    Ok(found)
}

fn one<T: DeserializeOwned>(
    conn: &Connection,
    table: &str,
    sql: &str,
    key: impl rusqlite::Params,
) -> Result<Option<T>, ReadError> {
    let mut statement = conn.prepare_cached(sql).map_err(unreadable)?;
    let row: Option<(String, String)> =
        statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional().map_err(unreadable)?;
    row.map(|(key, body)| noun(table, &key, &body)).transpose()
}

pub fn task(conn: &Connection, id: TaskId) -> Result<Option<Task>, ReadError> {
    one(conn, "task", "SELECT id, body FROM task WHERE id = ?1", [id.to_string()])
}

pub fn lease(conn: &Connection, id: LeaseId) -> Result<Option<Lease>, ReadError> {
    one(conn, "lease", "SELECT id, body FROM lease WHERE id = ?1", [id.to_string()])
}

pub fn lease_named(conn: &Connection, target: &str, name: &CredentialName) -> Result<Option<Lease>, ReadError> {
    let sql = "SELECT id, body FROM lease WHERE target = ?1 AND name = ?2";
    one(conn, "lease", sql, params![target, name.as_str()])
}

pub fn join_token(conn: &Connection, digest: &str) -> Result<Option<JoinToken>, ReadError> {
    one(conn, "join_token", "SELECT digest, body FROM join_token WHERE digest = ?1", [digest])
}
