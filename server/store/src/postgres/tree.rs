//! The tree, off the write path: leaves are appended to its edge, and tiles, root and checkpoint are written down now
//! and then. Whichever server does it: the leaves are the same, and so is what it writes.

use super::{
    error::{unreadable, unwritten},
    notes,
};
use crate::{
    rows::{inconsistent, int},
    tree::{STEP, Tree},
};
use server_core::{
    journal::{Hash, SignedNote, Tile},
    ports::{CommitError, ReadError, TreeRoot},
};
use sqlx::{Error, PgConnection};

/// Appends all leaves up to `size`.
pub async fn grow(tree: &mut Tree, conn: &mut PgConnection, size: u64) -> Result<(), ReadError> {
    while tree.edge.size() < size {
        let at = tree.edge.size();
        let leaves = leaves(conn, at, size).await?;
        if leaves.is_empty() {
            return Err(ReadError::Inconsistent(format!("journal `{at}` is missing")));
        }
        leaves.into_iter().for_each(|leaf| tree.edge.append(leaf, &mut tree.full));
    }
    Ok(())
}

async fn leaves(conn: &mut PgConnection, from: u64, to: u64) -> Result<Vec<Hash>, ReadError> {
    let sql = "SELECT position, leaf FROM journal WHERE position >= $1 AND position < $2 ORDER BY position LIMIT $3";
    let asked = sqlx::query_as(sql).bind(int(from)).bind(int(to)).bind(i64::from(STEP));
    let rows: Vec<(i64, Vec<u8>)> = asked.fetch_all(conn).await.map_err(unreadable)?;
    let leaf = |(n, (position, leaf)): (usize, (i64, Vec<u8>))| match leaf.try_into() {
        Ok(leaf) if position == int(from + n as u64) => Ok(leaf),
        _ => Err(inconsistent("journal", from + n as u64)),
    };
    rows.into_iter().enumerate().map(leaf).collect()
}

/// Writes down what is new, and the note beside it.
pub async fn write(
    tree: &Tree,
    conn: &mut PgConnection,
    root: TreeRoot,
    note: Option<SignedNote>,
) -> Result<(), CommitError> {
    let tiles = [tree.full.clone(), tree.edge.partial()].concat();
    let step = async {
        sqlx::raw_sql("BEGIN").execute(&mut *conn).await?;
        put(conn, &tiles).await?;
        // A server that was paused finds that others went on: nothing of its own stands behind theirs.
        let sql = "INSERT INTO journal_root SELECT $1, $2
                   WHERE NOT EXISTS(SELECT 1 FROM journal_root WHERE size > $1) ON CONFLICT DO NOTHING";
        sqlx::query(sql).bind(int(root.size)).bind(root.root.as_slice()).execute(&mut *conn).await?;
        let sql = "SELECT max(size) FROM journal_root";
        let newest: Option<i64> = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
        if let Some(note) = note.filter(|_| newest == Some(int(root.size))) {
            notes::keep(conn, root.size, note, false).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *conn).await.map(drop)
    };
    step.await.map_err(unwritten)
}

/// Writes tiles; one that grew takes the place of what there was of it, and one that another server wrote longer stays.
pub async fn put(conn: &mut PgConnection, tiles: &[Tile]) -> Result<(), Error> {
    // In one order, so that two servers that write the same wait for each other and never in a circle.
    let mut tiles: Vec<&Tile> = tiles.iter().collect();
    tiles.sort_by_key(|tile| (tile.id.level, tile.id.index));
    let levels: Vec<i32> = tiles.iter().map(|tile| i32::from(tile.id.level)).collect();
    let places: Vec<i64> = tiles.iter().map(|tile| int(tile.id.index)).collect();
    let hashes: Vec<Vec<u8>> = tiles.iter().map(|tile| tile.hashes.concat()).collect();
    let sql = "INSERT INTO journal_tile SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bytea[])
               ON CONFLICT(level, place) DO UPDATE SET hashes = excluded.hashes
               WHERE length(excluded.hashes) > length(journal_tile.hashes)";
    sqlx::query(sql).bind(levels).bind(places).bind(hashes).execute(conn).await.map(drop)
}
