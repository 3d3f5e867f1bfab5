//! Migrations: embedded, forward only, each in a transaction of its own.
//!
//! How to add one: the next numbered file, one line here. What was released is never edited.

use rusqlite::Connection;

/// "ERRD": tells a store from other SQLite files.
pub const APPLICATION_ID: i64 = 0x4552_5244;

const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_first.sql"),
    include_str!("../../migrations/sqlite/0002_holds.sql"),
    include_str!("../../migrations/sqlite/0003_sink_cursors.sql"),
    include_str!("../../migrations/sqlite/0004_tiles.sql"),
    include_str!("../../migrations/sqlite/0005_revoked_tokens.sql"),
    include_str!("../../migrations/sqlite/0006_pruned.sql"),
];

/// The first schema that keeps the tree in tiles.
pub const TILES: i64 = 4;

/// The first schema whose journal need not begin at position 0.
pub const PRUNED: i64 = 6;

/// The schema this program writes (`PRAGMA user_version`).
pub fn known() -> i64 {
    MIGRATIONS.len() as i64
}

/// Brings the schema from `version` to [`known`].
pub fn migrate(conn: &Connection, version: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(version).unwrap_or(0);
    for (i, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let step = conn.unchecked_transaction()?;
        step.execute_batch(sql)?;
        step.pragma_update(None, "user_version", i as i64 + 1)?;
        step.commit()?;
    }
    Ok(())
}
