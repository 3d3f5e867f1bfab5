//! What the disk and SQLite alone do: the floor under everything that must be durable.

use crate::stopwatch::now;
use anyhow::Result;
use rusqlite::{Connection, params};
use std::{fs::File, io::Write, path::Path, time::Duration};

/// Appends of 4 KiB, each synced, a second.
pub fn syncs_per_second(dir: &Path, run: Duration) -> Result<f64> {
    let mut file = File::create(dir.join("sync"))?;
    let block = [0u8; 4096];
    let (start, mut done) = (now(), 0u32);
    while now() - start < run {
        file.write_all(&block)?;
        file.sync_data()?;
        done += 1;
    }
    Ok(f64::from(done) / (now() - start).as_secs_f64())
}

/// Rows a second that one thread puts into a journal's tables in synced transactions of `group`, everything encoded
/// before: the most that a journal of this shape on SQLite can do.
pub fn rows_per_second(dir: &Path, group: u32, run: Duration) -> Result<f64> {
    let conn = Connection::open(dir.join("raw.db"))?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.execute_batch(
        "CREATE TABLE journal(position INTEGER PRIMARY KEY, time INTEGER, leaf BLOB, body BLOB) STRICT;
         CREATE TABLE journal_key(key TEXT, position INTEGER, PRIMARY KEY(key, position)) STRICT, WITHOUT ROWID;",
    )?;
    let mut row = conn.prepare("INSERT INTO journal VALUES(?1, ?2, ?3, ?4)")?;
    let mut key = conn.prepare("INSERT INTO journal_key VALUES(?1, ?2)")?;
    let body = [b'x'; 400];
    let (start, mut position) = (now(), 0i64);
    while now() - start < run {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..group {
            row.execute(params![position, 1_800_000_000_000i64, [7u8; 32], body])?;
            // Spread like serials, which are random.
            let serial =
                format!("cred:{:016x}{position:016x}", position.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64));
            for text in [serial.as_str(), "kind:svid.minted", NODE, WORKLOAD] {
                key.execute(params![text, position])?;
            }
            position += 1;
        }
        conn.execute_batch("COMMIT")?;
    }
    Ok(position as f64 / (now() - start).as_secs_f64())
}

const NODE: &str = "node:spiffe://example.org/spire/agent/join_token/0123456789abcdef0123456789abcdef";
const WORKLOAD: &str = "workload:spiffe://example.org/bench/load";
