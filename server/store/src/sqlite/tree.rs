//! The tree, off the write path: leaves are appended to its edge, and tiles, root and checkpoint are written down now
//! and then.

use super::{error::unreadable, notes, pool::Pool, writer::Chore};
use crate::{
    rows::int,
    tree::{STEP, Tree},
};
use rusqlite::{Connection, params};
use server_core::{
    journal::{Hash, SignedNote, Tile},
    ports::{ReadError, TreeRoot},
};

/// Appends all leaves up to `size`.
pub async fn grow(tree: &mut Tree, pool: &Pool, size: u64) -> Result<(), ReadError> {
    while tree.edge.size() < size {
        let at = tree.edge.size();
        let leaves = pool.with(move |conn| leaves(conn, at, size)).await?;
        if leaves.is_empty() {
            return Err(ReadError::Inconsistent(format!("journal `{at}` is missing")));
        }
        leaves.into_iter().for_each(|leaf| tree.edge.append(leaf, &mut tree.full));
    }
    Ok(())
}

/// Writes down what is new, and the note beside it.
pub fn write(tree: &Tree, root: TreeRoot, note: Option<SignedNote>) -> Chore {
    let tiles = [tree.full.clone(), tree.edge.partial()].concat();
    Box::new(move |conn| {
        let step = conn.unchecked_transaction()?;
        put(&step, &tiles)?;
        step.execute("INSERT OR IGNORE INTO journal_root VALUES(?1, ?2)", params![int(root.size), root.root])?;
        if let Some(note) = note {
            notes::keep(&step, root.size, note, false)?;
        }
        step.commit()
    })
}

fn leaves(conn: &Connection, from: u64, to: u64) -> Result<Vec<Hash>, ReadError> {
    let sql = "SELECT position, leaf FROM journal WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3";
    let read = || {
        let mut statement = conn.prepare_cached(sql)?;
        let rows = statement.query_map(params![int(from), int(to), STEP], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(u64, Hash)>>>()
    };
    let rows = read().map_err(unreadable)?;
    let in_order = rows.iter().enumerate().all(|(i, (position, _))| *position == from + i as u64);
    if !in_order {
        return Err(ReadError::Inconsistent(format!("journal has a gap behind position {from}")));
    }
    Ok(rows.into_iter().map(|(_, leaf)| leaf).collect())
}

/// Writes tiles; one that grew takes the place of what there was of it.
pub fn put(conn: &Connection, tiles: &[Tile]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached("INSERT OR REPLACE INTO journal_tile VALUES(?1, ?2, ?3)")?;
    for tile in tiles {
        insert.execute(params![tile.id.level, int(tile.id.index), tile.hashes.concat()])?;
    }
    Ok(())
}
