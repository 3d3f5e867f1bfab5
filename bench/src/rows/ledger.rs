//! Commits a second of the ledger alone: the store without network, keys and policy.

use crate::{
    load::{self, Caller},
    stopwatch::Span,
};
use anyhow::{Context as _, Result, ensure};
use proto_types::{Clock, Entropy, OsEntropy, Record, SystemClock};
use serde_json::json;
use server_core::ports::{Commit, CommitError, Ledger};
use server_store::{Files, OpenOptions, PostgresConfig, PostgresStore, SqliteStore, Store as _};
use sqlx::{Connection as _, PgConnection};
use std::{path::Path, sync::Arc, time::Duration};
use testkit::postgres::PostgresFixture;

/// How long the sessions of stores that were dropped may take to end.
const ENDED: Duration = Duration::from_secs(10);

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

/// The same in one database, through so many servers' stores, which write in turn; and how many records a group had.
pub async fn shared(
    postgres: &PostgresFixture,
    servers: usize,
    callers: usize,
    span: Span,
) -> Result<(load::Load, f64)> {
    let files = Files { password: Some(postgres.manager_password_file()), ..Files::default() };
    let database = format!("ledger_{servers}_{callers}");
    let url = postgres.store_url(&database).await;
    let place = PostgresConfig::parse(&url, files).map_err(anyhow::Error::msg)?;
    let mut stores: Vec<Arc<PostgresStore>> = Vec::new();
    for _ in 0..servers {
        let options = OpenOptions::new("example.org", false, Arc::new(OsEntropy), Arc::new(SystemClock));
        stores.push(PostgresStore::open(place.clone(), options).await?);
    }
    // The tree is written down each second by one of them, as servers do; the index follows by itself.
    let chores = stores.iter().take(1).cloned().map(|store| {
        tokio::spawn(async move {
            loop {
                SystemClock.sleep(Duration::from_secs(1)).await;
                store.write_root(None).await?;
            }
        })
    });
    let chores: Vec<tokio::task::JoinHandle<Result<(), CommitError>>> = chores.collect();
    let callers = stores.iter().cycle().take(callers).map(|store| Issuer(store.clone())).collect();
    let load = load::closed(callers, span).await?.0;
    for chore in chores {
        ensure!(!chore.is_finished(), "the tree could not be written");
        chore.abort();
    }
    drop(stores);
    // What a session did is counted when it ends.
    let ended = "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'errand'";
    testkit::poll::until("the servers' sessions end", ENDED, async || postgres.ask(ended).await).await;
    let groups = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'journal_head'";
    let groups: i64 = postgres.ask_on(&database, groups).await;
    let group = load.total as f64 / groups.max(1) as f64;
    Ok((load, group))
}

/// Writes groups of as many records as the ledger would, as plain SQL: what this database gives whoever keeps the order of
/// positions by one row.
struct Plain {
    conn: PgConnection,
    group: usize,
}

impl Caller for Plain {
    async fn call(&mut self) -> Result<()> {
        let Self { conn, group } = self;
        let rows = format!(
            "WITH head AS (UPDATE journal_head SET size = size + {group} RETURNING size - {group} AS first),
                  records AS (INSERT INTO journal SELECT first + n, 0, sha256((first + n)::text::bytea),
                      repeat('x', 420)::bytea FROM head, generate_series(0, {group} - 1) n)
             SELECT first FROM head"
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
