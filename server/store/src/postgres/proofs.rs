//! Proofs from tiles. What they prove is the reader's to verify: a tile that was changed gives a proof that fails.
//!
//! Which tiles a proof needs is known while it is computed: it is computed again after each that was missing. A proof
//! needs a few.

use super::{archive, error::unreadable};
use crate::rows::{inconsistent, int};
use proto_types::Position;
use server_core::{
    journal::{Edge, Hash, TileId, Tiled, prove_consistency, prove_inclusion},
    ports::{Path, ReadError},
};
use sqlx::PgConnection;
use std::{collections::HashMap, ops::Range};

/// What was read so far.
#[derive(Default)]
struct Tiles(HashMap<TileId, Vec<Hash>>);

/// Why something could not be computed.
enum Missing {
    /// This tile was not read yet.
    Unread(TileId),
    Short(TileId),
}

impl Tiles {
    fn part(&self, id: TileId, places: Range<usize>) -> Result<Vec<Hash>, Missing> {
        let hashes = self.0.get(&id).ok_or(Missing::Unread(id))?;
        hashes.get(places).map(<[Hash]>::to_vec).ok_or(Missing::Short(id))
    }
}

async fn tile(conn: &mut PgConnection, id: TileId) -> Result<Vec<Hash>, ReadError> {
    let asked = sqlx::query_scalar("SELECT hashes FROM journal_tile WHERE level = $1 AND place = $2");
    let bytes: Option<Vec<u8>> =
        asked.bind(i32::from(id.level)).bind(int(id.index)).fetch_optional(conn).await.map_err(unreadable)?;
    match bytes.as_deref().map(<[u8]>::as_chunks::<32>) {
        Some((hashes, [])) => Ok(hashes.to_vec()),
        _ => Err(missing(id)),
    }
}

fn missing(id: TileId) -> ReadError {
    inconsistent("journal_tile", format!("{}/{}", id.level, id.index))
}

/// Computes with what was read, and reads what was missing, until it comes to an end.
async fn computed<T>(conn: &mut PgConnection, compute: impl Fn(&Tiles) -> Result<T, Missing>) -> Result<T, ReadError> {
    let mut tiles = Tiles::default();
    loop {
        match compute(&tiles) {
            Ok(done) => return Ok(done),
            Err(Missing::Short(id)) => return Err(missing(id)),
            Err(Missing::Unread(id)) => {
                let hashes = tile(conn, id).await?;
                tiles.0.insert(id, hashes);
            }
        }
    }
}

/// The edge of the tree over the first `size` records.
pub async fn edge(conn: &mut PgConnection, size: u64) -> Result<Edge, ReadError> {
    computed(conn, |tiles| Edge::restore(size, |id, width| tiles.part(id, 0..width))).await
}

/// Whether a root over so many was written down, or over more: then the tiles hold them.
async fn there(conn: &mut PgConnection, size: u64) -> Result<bool, ReadError> {
    Ok(archive::newest_root(conn).await?.map_or(0, |root| root.size) >= size)
}

/// Audit paths of records.
pub async fn inclusions(
    conn: &mut PgConnection,
    positions: &[Position],
    size: u64,
) -> Result<Option<Vec<Path>>, ReadError> {
    if !there(conn, size).await? {
        return Ok(None);
    }
    computed(conn, |tiles| {
        let tree = Tiled(|id: TileId, places: Range<usize>| tiles.part(id, places));
        positions.iter().map(|position| prove_inclusion(position.0, size, &tree)).collect()
    })
    .await
}

/// That one tree continues another.
pub async fn consistency(conn: &mut PgConnection, old: u64, new: u64) -> Result<Option<Path>, ReadError> {
    if !there(conn, new).await? {
        return Ok(None);
    }
    computed(conn, |tiles| {
        prove_consistency(old, new, &Tiled(|id: TileId, places: Range<usize>| tiles.part(id, places)))
    })
    .await
}
