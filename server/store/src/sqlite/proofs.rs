//! Proofs from tiles. What they prove is the reader's to verify: a tile that was changed gives a proof that fails.

use super::{archive, error::unreadable};
use crate::rows::int;
use proto_types::Position;
use rusqlite::{Connection, OptionalExtension, params};
use server_core::{
    journal::{Edge, Hash, TileId, Tiled, prove_consistency, prove_inclusion},
    ports::{Path, ReadError},
};
use std::{cell::RefCell, collections::HashMap, ops::Range};

fn missing(id: TileId) -> ReadError {
    ReadError::Inconsistent(format!("journal_tile `{}/{}` is missing or short", id.level, id.index))
}

/// What there is of a tile.
fn tile(conn: &Connection, id: TileId) -> Result<Vec<Hash>, ReadError> {
    let bytes: Option<Vec<u8>> = conn
        .prepare_cached("SELECT hashes FROM journal_tile WHERE level = ?1 AND place = ?2")
        .and_then(|mut s| s.query_row(params![id.level, int(id.index)], |row| row.get(0)).optional())
        .map_err(unreadable)?;
    match bytes.as_deref().map(<[u8]>::as_chunks::<32>) {
        Some((hashes, [])) => Ok(hashes.to_vec()),
        _ => Err(missing(id)),
    }
}

fn part(id: TileId, hashes: &[Hash], places: Range<usize>) -> Result<Vec<Hash>, ReadError> {
    hashes.get(places).map(<[Hash]>::to_vec).ok_or_else(|| missing(id))
}

/// The edge of the tree over the first `size` records.
pub fn edge(conn: &Connection, size: u64) -> Result<Edge, ReadError> {
    Edge::restore(size, |id, width| part(id, &tile(conn, id)?, 0..width))
}

/// The tree in its tiles, each read once.
fn tree(conn: &Connection) -> Tiled<impl Fn(TileId, Range<usize>) -> Result<Vec<Hash>, ReadError>> {
    let seen = RefCell::new(HashMap::<TileId, Vec<Hash>>::new());
    Tiled(move |id: TileId, places| {
        if let Some(hashes) = seen.borrow().get(&id) {
            return part(id, hashes, places);
        }
        let hashes = tile(conn, id)?;
        let answer = part(id, &hashes, places);
        seen.borrow_mut().insert(id, hashes);
        answer
    })
}

/// Whether a root over so many was written down, or over more: then the tiles hold them.
fn there(conn: &Connection, size: u64) -> Result<bool, ReadError> {
    Ok(archive::newest_root(conn)?.map_or(0, |root| root.size) >= size)
}

pub fn inclusions(conn: &Connection, positions: &[Position], size: u64) -> Result<Option<Vec<Path>>, ReadError> {
    if !there(conn, size)? {
        return Ok(None);
    }
    let tree = tree(conn);
    positions.iter().map(|position| prove_inclusion(position.0, size, &tree)).collect()
}

pub fn consistency(conn: &Connection, old: u64, new: u64) -> Result<Option<Path>, ReadError> {
    if !there(conn, new)? {
        return Ok(None);
    }
    prove_consistency(old, new, &tree(conn))
}
