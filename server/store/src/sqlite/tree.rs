//! The tree, off the write path: leaves are appended to the frontier and the root is written down now and then.

use super::{error::unreadable, pool::Pool, rows::int, writer::Chore};
use rusqlite::params;
use server_core::{
    journal::{Frontier, Hash},
    ports::{ReadError, TreeRoot},
};

/// Leaves read at a time.
const STEP: u32 = 16_384;

/// The frontier in memory and how far the disk knows of it.
pub struct Tree {
    pub frontier: Frontier,
    pub written: u64,
}

impl Tree {
    pub fn root(&self) -> TreeRoot {
        TreeRoot { size: self.frontier.size(), root: self.frontier.root() }
    }
}

/// `from` with all leaves up to `size` appended.
pub async fn grow(pool: &Pool, from: &Frontier, size: u64) -> Result<Frontier, ReadError> {
    let mut tree = from.clone();
    while tree.size() < size {
        let at = tree.size();
        let leaves = pool.with(move |conn| leaves(conn, at, size)).await?;
        if leaves.is_empty() {
            return Err(ReadError::Inconsistent(format!("journal `{at}` is missing")));
        }
        leaves.into_iter().for_each(|leaf| tree.append(leaf));
    }
    Ok(tree)
}

fn leaves(conn: &rusqlite::Connection, from: u64, to: u64) -> Result<Vec<Hash>, ReadError> {
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

/// Writes the root and what it goes on from.
pub fn write(tree: &Frontier) -> Chore {
    let (size, root, peaks) = (int(tree.size()), tree.root(), tree.peaks());
    Box::new(move |conn| {
        let step = conn.unchecked_transaction()?;
        step.execute("INSERT OR IGNORE INTO journal_root VALUES(?1, ?2)", params![size, root])?;
        step.execute("INSERT OR REPLACE INTO journal_frontier VALUES(1, ?1, ?2)", params![size, peaks])?;
        step.commit()
    })
}
