//! Commits a second of the ledger alone: the store without network, keys and policy.

use crate::{
    load::{self, Caller},
    stopwatch::Span,
};
use anyhow::Result;
use proto_types::{Clock, Entropy, OsEntropy, Record, SystemClock};
use serde_json::json;
use server_core::ports::{Commit, Ledger};
use server_store::{OpenOptions, SqliteStore};
use std::{path::Path, sync::Arc};

/// Writes down one issued SVID, as the server does.
struct Issuer(Arc<SqliteStore>);

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
