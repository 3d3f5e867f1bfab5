//! What stands beside a record.

use crate::rows::int;
use proto_types::Position;
use rusqlite::Connection;
use server_core::journal::Private;

/// What stands beside one body.
pub fn private(conn: &Connection, position: Position) -> rusqlite::Result<Vec<Private>> {
    let mut statement =
        conn.prepare_cached("SELECT field, salt, value FROM journal_private WHERE position = ?1 ORDER BY field")?;
    let rows = statement.query_map([int(position.0)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}
