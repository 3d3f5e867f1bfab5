//! Migrations: embedded, forward only, each in a transaction of its own, one server at a time.
//!
//! How to add one: the next numbered file, one line here. What was released is never edited.

use sqlx::{Connection as _, Error, PgConnection};

const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_first.sql"),
    include_str!("../../migrations/postgres/0002_cluster.sql"),
    include_str!("../../migrations/postgres/0003_found.sql"),
];

/// "ERRD": the advisory lock of whoever changes the schema.
const LOCK: i64 = 0x4552_5244;

/// The schema this program writes.
pub fn known() -> i64 {
    MIGRATIONS.len() as i64
}

/// The schema that is there; 0 when there is none.
pub async fn version(conn: &mut PgConnection) -> Result<i64, Error> {
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('errand.schema_version') IS NOT NULL").fetch_one(&mut *conn).await?;
    match there {
        true => sqlx::query_scalar("SELECT version FROM errand.schema_version").fetch_one(conn).await,
        false => Ok(0),
    }
}

/// Brings the schema to [`known`]; another server may have done so meanwhile. What a migration begins it ends, or nothing
/// of it is there.
pub async fn migrate(conn: &mut PgConnection) -> Result<(), Error> {
    loop {
        let mut step = conn.begin().await?;
        // A large journal takes as long as it takes.
        sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *step).await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *step).await?;
        let done = version(&mut step).await?;
        let Some(sql) = usize::try_from(done).ok().and_then(|done| MIGRATIONS.get(done)) else { return Ok(()) };
        if done == 0 {
            let first = "CREATE SCHEMA IF NOT EXISTS errand;
                         CREATE TABLE errand.schema_version(one integer PRIMARY KEY CHECK(one = 1), version bigint NOT NULL);
                         INSERT INTO errand.schema_version VALUES(1, 0)";
            sqlx::raw_sql(first).execute(&mut *step).await?;
        }
        sqlx::raw_sql(*sql).execute(&mut *step).await?;
        sqlx::query("UPDATE errand.schema_version SET version = $1").bind(done + 1).execute(&mut *step).await?;
        step.commit().await?;
    }
}
