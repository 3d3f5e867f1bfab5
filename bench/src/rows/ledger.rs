//! Commits a second of the ledger alone: the store without network, keys and policy.

use crate::{
    load::{self, Caller},
    stopwatch::Span,
};
use anyhow::Result;
use proto_types::{Clock, Entropy, OsEntropy, Record, SystemClock};
use serde_json::json;
use server_core::ports::{Commit, Ledger};
use server_store::{Files, OpenOptions, PostgresConfig, PostgresStore, SqliteStore};
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
