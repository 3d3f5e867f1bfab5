//! A store moved from a file into a database: every row, in the order of its key, so that a copy that was broken off goes on
//! where it was; and at the end every record rehashed against the root of the file.
//!
//! Decides what a copy is: the same store, with its id, its keys and its journal. The file is closed for good by its name:
//! two stores of one id would both believe that they are the one.

use crate::{
    OpenError, OpenOptions, PostgresConfig, PostgresError, SqliteStore,
    postgres::{Connector, PgConnection, archive, index, pruned, schema},
};
use proto_types::{Clock, Entropy, Position, id::excerpt};
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use server_core::{
    journal::{Verdict, Verifier},
    ports::{CommitError, Feed as _, ReadError, Snapshots as _},
};
use sqlx::{AssertSqlSafe, Postgres, query::Query};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Rows written in one transaction.
const STEP: u64 = 1_000;

/// A table, its columns in order, and how many of the first of them are its key.
struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Kind)],
    key: usize,
}

/// What a column holds in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Small,
    Bool,
    Text,
    Bytes,
    /// Text there, its UTF-8 here.
    Utf8,
}
use Kind::{Bool, Bytes, Int, Small, Text, Utf8};

const fn table(name: &'static str, key: usize, columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, columns, key }
}

/// Everything but `meta` and `journal_head`, which say at the end that the rest is there, and the index, which is made there.
const TABLES: &[Table] = &[
    table("journal", 1, &[("position", Int), ("time", Int), ("leaf", Bytes), ("body", Bytes)]),
    table("journal_private", 2, &[("position", Int), ("field", Text), ("salt", Bytes), ("value", Utf8)]),
    table("journal_root", 1, &[("size", Int), ("root", Bytes)]),
    table("journal_tile", 2, &[("level", Small), ("place", Int), ("hashes", Bytes)]),
    table("journal_note", 1, &[("size", Int), ("note", Text), ("cosigned", Bool)]),
    table("entry", 1, &[("id", Text), ("revision", Int), ("dedup", Bytes), ("body", Text)]),
    table("node", 1, &[("id", Text), ("serial", Text), ("next_serial", Text), ("banned", Bool), ("body", Text)]),
    table("join_token", 1, &[("digest", Text), ("expires_at", Int), ("body", Text)]),
    table("claim", 2, &[("kind", Text), ("key", Bytes), ("expires_at", Int)]),
    table(
        "task",
        1,
        &[
            ("id", Text),
            ("state", Text),
            ("epoch", Int),
            ("workload", Text),
            ("user", Text),
            ("node", Text),
            ("started_at", Int),
            ("body", Text),
        ],
    ),
    table("task_serial", 2, &[("task", Text), ("serial", Text), ("not_after", Int)]),
    table(
        "lease",
        1,
        &[
            ("id", Text),
            ("task", Text),
            ("target", Text),
            ("name", Text),
            ("kind", Text),
            ("workload", Text),
            ("state", Text),
            ("issued_at", Int),
            ("body", Text),
        ],
    ),
    table("revoked_token", 1, &[("jti", Text), ("expires_at", Int)]),
    table(
        "authority",
        1,
        &[
            ("id", Text),
            ("use", Text),
            ("state", Text),
            ("sealed", Bytes),
            ("public", Bytes),
            ("created_at", Int),
            ("not_after", Int),
        ],
    ),
    table("target", 1, &[("name", Text), ("body", Text)]),
    table("policy", 1, &[("id", Text), ("body", Text)]),
    table("hold", 1, &[("id", Text), ("key", Text), ("body", Text)]),
    table("job", 1, &[("name", Text), ("epoch", Int), ("holder", Text)]),
    table("sink_cursor", 1, &[("name", Text), ("next", Int)]),
];

/// How far a copy is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub table: &'static str,
    pub done: u64,
    pub of: u64,
}

/// What was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    pub rows: u64,
    pub records: u64,
    /// The root of the journal, the same on both sides.
    pub root: [u8; 32],
    /// What the file is called now.
    pub left_as: PathBuf,
}

/// Why a store was not copied. The file is as it was, and a copy that was begun can be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    File(#[from] OpenError),
    #[error(transparent)]
    Database(#[from] PostgresError),
    #[error("{0}")]
    Commit(#[from] CommitError),
    #[error("{path} cannot be read: {why}")]
    Read { path: PathBuf, why: String },
    #[error("{at} holds another store already: name an empty database")]
    Occupied { at: String },
    #[error("{at}: {why}")]
    Write { at: String, why: String },
    #[error("what was copied to {at} is not what the file holds: {why}. Drop the schema `errand` there and copy again")]
    Differs { at: String, why: String },
    #[error("the copy is whole; {path} could not be renamed ({why}): move it away, no server may open it again")]
    NotRenamed { path: PathBuf, why: String },
}

/// Copies the store in the file `from` into the database `to`. No server may run on it.
pub async fn copy(
    from: &Path,
    to: PostgresConfig,
    (entropy, clock): (Arc<dyn Entropy>, Arc<dyn Clock>),
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Copied, CopyError> {
    let at = to.shown();
    let (trust_domain, dev) = peek(from)?;
    // Held until the end: nobody else opens it meanwhile. The root is written over everything there is.
    let source = SqliteStore::open(from, OpenOptions::new(trust_domain, dev, entropy, clock.clone()))?;
    let root = source.write_root(None).await?;
    let size = *source.size().borrow();
    let reading = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(unread(from))?;

    let connector = Connector::new(to, clock);
    let unreachable = |why| PostgresError::Unreachable { at: at.clone(), why };
    let mut conn = connector.primary().await.map_err(unreachable)?;
    let unwritten = |e: sqlx::Error| CopyError::Write { at: at.clone(), why: excerpt(&e.to_string()) };
    begin(&mut conn, &source, size, &at).await?;
    let mut rows = 0;
    for table in TABLES {
        rows += table.copy(&reading, from, &mut conn, &at, progress).await?;
    }
    finish(&mut conn, &reading, from, &at).await?;
    index(&mut conn, size, &at, progress).await?;
    let differs = |why: String| CopyError::Differs { at: at.clone(), why };
    let verdict = verified(&mut conn).await.map_err(|e| differs(e.to_string()))?;
    let expected = root.map_or_else(server_core::journal::empty_root, |root| root.root);
    match verdict {
        Verdict::Ok { size: copied, root } if copied == size && root == expected => {}
        other => return Err(differs(format!("{other:?}"))),
    }
    let done = "DELETE FROM copying";
    sqlx::query(done).execute(&mut conn).await.map_err(unwritten)?;
    drop(reading);
    // Closed, with its log folded in.
    drop(source);
    let mut left_as = from.as_os_str().to_owned();
    left_as.push(".copied");
    let left_as = PathBuf::from(left_as);
    std::fs::rename(from, &left_as)
        .map_err(|e| CopyError::NotRenamed { path: from.into(), why: e.kind().to_string() })?;
    Ok(Copied { rows, records: size, root: expected, left_as })
}

fn unread(path: &Path) -> impl Fn(rusqlite::Error) -> CopyError {
    move |e| CopyError::Read { path: path.into(), why: e.to_string() }
}

/// Whose store it is, before it is opened as that.
fn peek(path: &Path) -> Result<(String, bool), CopyError> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(unread(path))?;
    let sql = "SELECT trust_domain, dev FROM meta";
    conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(unread(path))
}

/// The database names the store and says that it is not whole. What was copied from an older state of the file is let go.
async fn begin(conn: &mut PgConnection, source: &SqliteStore, size: u64, at: &str) -> Result<(), CopyError> {
    let meta = source.meta();
    let begin = async {
        schema::migrate(conn).await?;
        let there: Option<(String, Option<i64>)> =
            sqlx::query_as("SELECT store_id, (SELECT size FROM copying) FROM meta").fetch_optional(&mut *conn).await?;
        match there {
            Some((store, Some(of))) if store == meta.store_id => {
                if of != crate::rows::int(size) {
                    for table in TABLES {
                        let sql = format!("TRUNCATE {}", table.name);
                        sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await?;
                    }
                    let sql = "TRUNCATE journal_found; UPDATE journal_indexed SET next = 0";
                    sqlx::raw_sql(sql).execute(&mut *conn).await?;
                    let sql = "UPDATE copying SET size = $1";
                    sqlx::query(sql).bind(crate::rows::int(size)).execute(&mut *conn).await?;
                }
                Ok(true)
            }
            Some(_) => Ok(false),
            None => {
                let sql = "WITH begun AS (INSERT INTO copying VALUES(1, $6))
                           INSERT INTO meta(one, trust_domain, dev, store_id, epoch, created_at)
                           VALUES(1, $1, $2, $3, $4, $5)";
                sqlx::query(sql)
                    .bind(&meta.trust_domain)
                    .bind(meta.dev)
                    .bind(&meta.store_id)
                    .bind(crate::rows::int(meta.epoch))
                    .bind(meta.clock_high_water.as_millis())
                    .bind(crate::rows::int(size))
                    .execute(&mut *conn)
                    .await?;
                Ok(true)
            }
        }
    };
    let failed = |e: sqlx::Error| CopyError::Write { at: at.into(), why: excerpt(&e.to_string()) };
    match begin.await.map_err(failed)? {
        true => Ok(()),
        false => Err(CopyError::Occupied { at: at.into() }),
    }
}

/// The head, and what the file's `meta` says.
async fn finish(conn: &mut PgConnection, reading: &Connection, from: &Path, at: &str) -> Result<(), CopyError> {
    let sql = "SELECT size, clock_high_water, start, created_at FROM journal_head, meta";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let (size, newest, start, created): (i64, i64, i64, i64) =
        reading.query_row(sql, [], read).map_err(unread(from))?;
    let sql = "WITH named AS (UPDATE meta SET created_at = $4)
               UPDATE journal_head SET size = $1, clock_high_water = $2, start = $3";
    let put = sqlx::query(sql).bind(size).bind(newest).bind(start).bind(created).execute(conn).await;
    put.map(drop).map_err(|e| CopyError::Write { at: at.into(), why: excerpt(&e.to_string()) })
}

/// What records are found by, made from the records themselves.
async fn index(
    conn: &mut PgConnection,
    size: u64,
    at: &str,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), CopyError> {
    let failed = |why: String| CopyError::Write { at: at.into(), why: format!("the journal's index: {why}") };
    let start = pruned::start(conn).await.map_err(|e| failed(excerpt(&e.to_string())))?;
    let mut done = index::end(conn).await.map_err(|e| failed(excerpt(&e.to_string())))?.max(start);
    while done < size {
        progress(Progress { table: "journal_found", done, of: size });
        done = index::add(conn, done, &|_, _| None).await.map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

/// Every record that is kept, rehashed, and the tree over all of them.
async fn verified(conn: &mut PgConnection) -> Result<Verdict, ReadError> {
    let pruned = pruned::tree(conn).await?;
    let mut from = pruned.size();
    let mut verifier = Verifier::behind(pruned, archive::roots(conn, 0, 4096).await?);
    loop {
        let page = archive::stored(conn, Position(from), 4096).await?;
        let Some(last) = page.last() else { break };
        from = last.position.0 + 1;
        if !verifier.feed_all(&page) {
            break;
        }
    }
    Ok(verifier.finish())
}

/// One column of a batch.
enum Column {
    Ints(Vec<Option<i64>>),
    Bools(Vec<Option<bool>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn of(kind: Kind) -> Self {
        match kind {
            Int | Small => Self::Ints(Vec::new()),
            Bool => Self::Bools(Vec::new()),
            Text => Self::Texts(Vec::new()),
            Bytes | Utf8 => Self::Bytes(Vec::new()),
        }
    }

    fn push(&mut self, value: ValueRef<'_>) -> Result<(), rusqlite::types::FromSqlError> {
        match (self, value) {
            (Self::Ints(all), value) => all.push(value.as_i64_or_null()?),
            (Self::Bools(all), value) => all.push(value.as_i64_or_null()?.map(|n| n != 0)),
            (Self::Texts(all), value) => all.push(value.as_str_or_null()?.map(String::from)),
            (Self::Bytes(all), ValueRef::Text(text)) => all.push(Some(text.to_vec())),
            (Self::Bytes(all), value) => all.push(value.as_blob_or_null()?.map(<[u8]>::to_vec)),
        }
        Ok(())
    }

    fn bind<'q>(
        self,
        query: Query<'q, Postgres, sqlx::postgres::PgArguments>,
    ) -> Query<'q, Postgres, sqlx::postgres::PgArguments> {
        match self {
            Self::Ints(all) => query.bind(all),
            Self::Bools(all) => query.bind(all),
            Self::Texts(all) => query.bind(all),
            Self::Bytes(all) => query.bind(all),
        }
    }
}

impl Table {
    async fn copy(
        &self,
        reading: &Connection,
        from: &Path,
        conn: &mut PgConnection,
        at: &str,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<u64, CopyError> {
        let failed = |e: sqlx::Error| CopyError::Write {
            at: at.into(),
            why: format!("{}: {}", self.name, excerpt(&e.to_string())),
        };
        let count = format!("SELECT count(*) FROM {}", self.name);
        let of: i64 = reading.query_row(&count, [], |row| row.get(0)).map_err(unread(from))?;
        let of = u64::try_from(of).unwrap_or(0);
        let there: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *conn).await.map_err(failed)?;
        // Rows come in the order of their key: as many as are there are not read again.
        let mut done = u64::try_from(there).unwrap_or(0);
        let insert = self.insert();
        let mut statement = reading.prepare(&self.select()).map_err(unread(from))?;
        let mut rows = statement.query([crate::rows::int(done)]).map_err(unread(from))?;
        loop {
            progress(Progress { table: self.name, done, of });
            let (batch, count) = self.batch(&mut rows).map_err(unread(from))?;
            if count == 0 {
                return Ok(done);
            }
            let query = sqlx::query(AssertSqlSafe(insert.clone()));
            let query = batch.into_iter().fold(query, |query, column| column.bind(query));
            query.execute(&mut *conn).await.map_err(failed)?;
            done += count;
        }
    }

    fn select(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let key = names.iter().take(self.key).copied().collect::<Vec<_>>().join(", ");
        format!("SELECT {} FROM {} ORDER BY {key} LIMIT -1 OFFSET ?1", names.join(", "), self.name)
    }

    /// The next rows, at most [`STEP`].
    fn batch(&self, rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<(Vec<Column>, u64)> {
        let mut batch: Vec<_> = self.columns.iter().map(|(_, kind)| Column::of(*kind)).collect();
        let mut count = 0;
        while count < STEP
            && let Some(row) = rows.next()?
        {
            for (n, column) in batch.iter_mut().enumerate() {
                let wrong = |e: rusqlite::types::FromSqlError| {
                    rusqlite::Error::FromSqlConversionFailure(n, rusqlite::types::Type::Null, Box::new(e))
                };
                column.push(row.get_ref(n)?).map_err(wrong)?;
            }
            count += 1;
        }
        Ok((batch, count))
    }

    fn insert(&self) -> String {
        let named: Vec<_> = self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let arrays = self.columns.iter().enumerate().map(|(n, (_, kind))| {
            let of = match kind {
                Int | Small => "bigint",
                Bool => "boolean",
                Text => "text",
                Bytes | Utf8 => "bytea",
            };
            format!("${}::{of}[]", n + 1)
        });
        let arrays: Vec<_> = arrays.collect();
        format!("INSERT INTO {}({}) SELECT * FROM unnest({})", self.name, named.join(", "), arrays.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_table_and_every_column_of_the_file_is_copied() {
        let conn = Connection::open_in_memory().unwrap();
        crate::sqlite::schema::migrate(&conn, 0).unwrap();
        let sql =
            "SELECT m.name || '.' || p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type = 'table'";
        let mut statement = conn.prepare(sql).unwrap();
        let there: BTreeSet<String> =
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let made = ["meta.", "journal_head.", "journal_key."];
        let head = |name: &&String| !made.iter().any(|made| name.starts_with(made));
        let there: BTreeSet<_> = there.iter().filter(head).cloned().collect();
        let copied = TABLES.iter().flat_map(|t| t.columns.iter().map(|(column, _)| format!("{}.{column}", t.name)));
        assert_eq!(copied.collect::<BTreeSet<_>>(), there);
    }
}
