//! Commits a second of the ledger alone: the store without network, keys and policy.

use crate::{
    load::{self, Caller},
    stopwatch::Span,
};
use anyhow::{Context as _, Result};
use proto_types::{Clock, Entropy, OsEntropy, Record, SystemClock};
use serde_json::json;
use server_core::ports::{Commit, Ledger};
use server_store::{Files, OpenOptions, PostgresConfig, PostgresStore, SqliteStore};
use sqlx::{Connection as _, PgConnection};
use std::{path::Path, sync::Arc};
use testkit::postgres::PostgresFixture;

/// Writes down one issued SVID, as the server does.
struct Issuer(Arc<dyn Ledger>);

impl Caller for Issuer {
    async fn call(&mut self) -> Result<()> {
        let mut serial = [0; 16];
        OsEntropy.fill(&mut serial);
        let now = SystemClock.now();
        let record = Record::new(now, "svid.minted")
            .workload("spiffe://example.org/bench/load")
            .credential("x509", serial.iter().map(|b| format!("{b:02x}")).collect::<String>())
            .node("spiffe://example.org/spire/agent/join_token/0123456789abcdef0123456789abcdef")
            .detail(json!({ "entry_id": "0190a1b2-0000-7000-8000-000000000000", "not_after": now }));
        self.0.commit(Commit::of(record)).await?;
        Ok(())
    }
}

/// Commits a second with so many callers, on a store of its own in `dir`.
pub async fn commits(dir: &Path, callers: usize, span: Span) -> Result<load::Load> {
    let options = OpenOptions::new("example.org", false, Arc::new(OsEntropy), Arc::new(SystemClock));
    let store = SqliteStore::open(dir.join(format!("ledger-{callers}/errand.db")), options)?;
    let callers = (0..callers).map(|_| Issuer(store.clone())).collect();
    Ok(load::closed(callers, span).await?.0)
}

/// The same in one database, through so many servers' stores, which write in turn.
pub async fn shared(postgres: &PostgresFixture, servers: usize, callers: usize, span: Span) -> Result<load::Load> {
    let files = Files { password: Some(postgres.manager_password_file()), ..Files::default() };
    let url = postgres.store_url(&format!("ledger_{servers}_{callers}")).await;
    let place = PostgresConfig::parse(&url, files).map_err(anyhow::Error::msg)?;
    let mut stores: Vec<Arc<dyn Ledger>> = Vec::new();
    for _ in 0..servers {
        let options = OpenOptions::new("example.org", false, Arc::new(OsEntropy), Arc::new(SystemClock));
        stores.push(PostgresStore::open(place.clone(), options).await?);
    }
    let callers = stores.iter().cycle().take(callers).map(|store| Issuer(store.clone())).collect();
    Ok(load::closed(callers, span).await?.0)
}

/// Writes groups of as many rows as the ledger would, as plain SQL: what this database gives whoever keeps the order of
/// positions by one row.
struct Plain {
    conn: PgConnection,
    group: usize,
}

impl Caller for Plain {
    async fn call(&mut self) -> Result<()> {
        let Self { conn, group } = self;
        sqlx::raw_sql("BEGIN").execute(&mut *conn).await?;
        let size = sqlx::query_scalar("SELECT size FROM journal_head FOR UPDATE");
        let size: i64 = size.fetch_one(&mut *conn).await?;
        let (from, to) = (size, size + i64::try_from(*group)? - 1);
        let rows = format!(
            "INSERT INTO journal SELECT n, 0, sha256(n::text::bytea), repeat('x', 420)::bytea
                 FROM generate_series({from}::bigint, {to}) n;
             INSERT INTO journal_key SELECT key, n FROM generate_series({from}::bigint, {to}) n, LATERAL (VALUES
                 ('kind:svid.minted'), ('cred:' || md5(n::text)), ('workload:spiffe://example.org/bench/load'),
                 ('node:spiffe://example.org/spire/agent/join_token/0123456789abcdef0123456789abcdef')) AS keys(key);
             UPDATE journal_head SET size = {to} + 1;
             COMMIT"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(conn).await?;
        Ok(())
    }
}

/// Records a second in such groups, with so many writers, of the database alone.
pub async fn plain(postgres: &PostgresFixture, writers: usize, group: usize, span: Span) -> Result<f64> {
    let database = format!("plain_{writers}_{group}");
    let files = Files { password: Some(postgres.manager_password_file()), ..Files::default() };
    let place = PostgresConfig::parse(&postgres.store_url(&database).await, files).map_err(anyhow::Error::msg)?;
    let options = OpenOptions::new("example.org", false, Arc::new(OsEntropy), Arc::new(SystemClock));
    drop(PostgresStore::open(place, options).await?);
    let mut all = Vec::new();
    for _ in 0..writers {
        let mut conn = PgConnection::connect(&postgres.superuser_url(&database)).await.context("the database")?;
        sqlx::raw_sql("SET search_path = errand").execute(&mut conn).await?;
        all.push(Plain { conn, group });
    }
    Ok(load::closed(all, span).await?.0.per_second * group as f64)
}
