//! Verifying a journal: records a second on every core, as `errand journal verify` reads them.

use anyhow::{Result, ensure};
use proto_types::{Clock, OsEntropy, Position, Record, SystemClock};
use serde_json::json;
use server_core::{
    journal::{Frontier, Verdict, Verifier, encode},
    ports::{StoredRecord, TreeRoot},
};

use crate::stopwatch::now;

/// Enough that reading the clock costs nothing beside them.
const RECORDS: u64 = 200_000;

/// Records verified a second; they lie in memory.
pub fn per_second() -> Result<f64> {
    let (records, root) = journal()?;
    let begin = now();
    let mut verifier = Verifier::new([root]);
    for part in records.chunks(4096) {
        verifier.feed_all(part);
    }
    let verdict = verifier.finish();
    let took = begin.elapsed().as_secs_f64();
    ensure!(matches!(verdict, Verdict::Ok { size: RECORDS, .. }), "the journal does not verify: {verdict:?}");
    Ok(RECORDS as f64 / took)
}

fn journal() -> Result<(Vec<StoredRecord>, TreeRoot)> {
    let (mut records, mut tree) = (Vec::new(), Frontier::new());
    let time = SystemClock.now();
    for position in 0..RECORDS {
        let record = Record::new(time, "svid.minted")
            .workload("spiffe://example.org/bench/load")
            .credential("x509", format!("{position:032x}"))
            .node("spiffe://example.org/spire/agent/join_token/0123456789abcdef0123456789abcdef")
            .detail(json!({ "entry_id": "0190a1b2-0000-7000-8000-000000000000", "not_after": time }));
        let one = encode(&record, &OsEntropy)?;
        tree.append(one.leaf);
        let (leaf, body, private) = (one.leaf, one.body, one.private);
        records.push(StoredRecord { position: Position(position), leaf, body, private });
    }
    let root = TreeRoot { size: RECORDS, root: tree.root() };
    Ok((records, root))
}
