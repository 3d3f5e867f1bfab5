//! The tree, off the write path: leaves are appended to its edge, and tiles, root and checkpoint are written down now
//! and then.

use super::{error::unreadable, notes, pool::Pool, rows::int, writer::Chore};
use rusqlite::{Connection, params};
use server_core::{
    journal::{Edge, Hash, SignedNote, Tile, VerifierKey},
    ports::{ReadError, TreeRoot},
};

/// Leaves read at a time.
const STEP: u32 = 16_384;

/// The edge in memory and how far the disk knows of it.
pub struct Tree {
    pub edge: Edge,
    /// Tiles that became full and are not written yet.
    pub full: Vec<Tile>,
    pub written: u64,
    /// The key that signed the newest root, as far as this process knows.
    pub signed_by: Option<VerifierKey>,
}

impl Tree {
    /// `None` for an empty journal.
    pub fn root(&self) -> Option<TreeRoot> {
        let tree = self.edge.frontier();
        (tree.size() > 0).then(|| TreeRoot { size: tree.size(), root: tree.root() })
    }

    /// Appends all leaves up to `size`.
    pub async fn grow(&mut self, pool: &Pool, size: u64) -> Result<(), ReadError> {
        while self.edge.size() < size {
            let at = self.edge.size();
            let leaves = pool.with(move |conn| leaves(conn, at, size)).await?;
            if leaves.is_empty() {
                return Err(ReadError::Inconsistent(format!("journal `{at}` is missing")));
            }
            leaves.into_iter().for_each(|leaf| self.edge.append(leaf, &mut self.full));
        }
        Ok(())
    }

    /// Writes down what is new, and the note beside it.
    pub fn write(&self, root: TreeRoot, note: Option<SignedNote>) -> Chore {
        let tiles = [self.full.clone(), self.edge.partial()].concat();
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
