//! Tiles: the hashes of a tree in blocks of 256, each level eight below the next (C2SP tlog-tiles).
//!
//! Decides which hashes stand in which tile, and proves from tiles in a number of reads that grows with the logarithm
//! of the tree. A tile that is not full is written again as it grows; a full one never changes.

use crate::{
    proof::{Nodes, root_of},
    tree::{Frontier, Hash, node_hash},
};
use std::ops::Range;

/// Hashes in a full tile.
pub const TILE_WIDTH: usize = 256;
/// Levels of the tree from one level of tiles to the next.
const STEP: u32 = 8;

/// Where a tile stands. Level 0 holds the leaves' hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    pub level: u8,
    pub index: u64,
}

/// A tile with what it holds: all 256 hashes, or those there are yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    pub id: TileId,
    pub hashes: Vec<Hash>,
}

/// The right edge of a tree: its tiles that are not full. All that appending needs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Edge {
    size: u64,
    /// By level; each shorter than a full tile.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the edge of a tree of `size` leaves back: `read` gives the first so many hashes of a tile.
    pub fn restore<E>(size: u64, mut read: impl FnMut(TileId, usize) -> Result<Vec<Hash>, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        let mut count = size;
        while count > 0 {
            let (index, width) = (count >> STEP, (count % TILE_WIDTH as u64) as usize);
            let id = TileId { level: levels.len() as u8, index };
            levels.push(if width == 0 { Vec::new() } else { read(id, width)? });
            count = index;
        }
        Ok(Self { size, levels })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right. Tiles that it fills are added to `full`.
    pub fn append(&mut self, leaf: Hash, full: &mut Vec<Tile>) {
        self.size += 1;
        let (mut hash, mut count) = (leaf, self.size);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE_WIDTH));
            }
            self.levels[level].push(hash);
            if self.levels[level].len() < TILE_WIDTH {
                return;
            }
            let hashes = std::mem::replace(&mut self.levels[level], Vec::with_capacity(TILE_WIDTH));
            hash = root_of(&hashes);
            count >>= STEP;
            full.push(Tile { id: TileId { level: level as u8, index: count - 1 }, hashes });
        }
    }

    /// The tiles that are not full, as they stand.
    pub fn partial(&self) -> Vec<Tile> {
        let tile = |(level, hashes): (usize, &Vec<Hash>)| {
            let index = self.size >> (STEP * (level as u32 + 1));
            Tile { id: TileId { level: level as u8, index }, hashes: hashes.clone() }
        };
        self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()).map(tile).collect()
    }

    /// The perfect subtrees of the whole tree.
    pub fn frontier(&self) -> Frontier {
        let mut peaks = Vec::new();
        for mut rest in self.levels.iter().rev().map(Vec::as_slice) {
            while !rest.is_empty() {
                let (subtree, right) = rest.split_at(1 << rest.len().ilog2());
                peaks.push(root_of(subtree));
                rest = right;
            }
        }
        Frontier { size: self.size, peaks }
    }
}

/// A tree whose tiles `read` gives: some hashes of one tile, by their places in it.
pub struct Tiled<F>(pub F);

impl<E, F: Fn(TileId, Range<usize>) -> Result<Vec<Hash>, E>> Tiled<F> {
    /// The root of the perfect subtree of 2^`height` leaves that is number `index` among its like.
    fn node(&self, height: u32, index: u64) -> Result<Hash, E> {
        let (level, rest) = ((height / STEP) as u8, height % STEP);
        let first = index << rest;
        let place = (first % TILE_WIDTH as u64) as usize;
        let hashes = (self.0)(TileId { level, index: first >> STEP }, place..place + (1 << rest))?;
        Ok(root_of(&hashes))
    }
}

impl<E, F: Fn(TileId, Range<usize>) -> Result<Vec<Hash>, E>> Nodes for Tiled<F> {
    type Error = E;
    fn root(&self, from: u64, to: u64) -> Result<Hash, E> {
        let (mut at, mut peaks) = (from, Vec::new());
        while at < to {
            let height = (to - at).ilog2();
            peaks.push(self.node(height, at >> height)?);
            at += 1 << height;
        }
        let joined = peaks.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
        Ok(joined.unwrap_or_else(crate::tree::empty_root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proof::{prove_consistency, prove_inclusion},
        tree::leaf_hash,
    };
    use std::{cell::RefCell, collections::BTreeMap};

    /// Tiles as a store keeps them.
    #[derive(Default)]
    struct Shelf(RefCell<BTreeMap<TileId, Vec<Hash>>>);

    impl Shelf {
        fn put(&self, tiles: Vec<Tile>) {
            self.0.borrow_mut().extend(tiles.into_iter().map(|t| (t.id, t.hashes)));
        }
        fn read(&self, id: TileId, places: Range<usize>) -> Result<Vec<Hash>, TileId> {
            self.0.borrow().get(&id).and_then(|t| t.get(places)).map(<[Hash]>::to_vec).ok_or(id)
        }
    }

    fn leaf(n: u64) -> Hash {
        leaf_hash(&n.to_be_bytes())
    }

    #[test]
    fn an_edge_has_the_root_of_its_leaves_and_goes_on_from_its_tiles() {
        let (shelf, mut edge, mut tree) = (Shelf::default(), Edge::new(), Frontier::new());
        for n in 0..70_000 {
            let mut full = Vec::new();
            edge.append(leaf(n), &mut full);
            tree.append(leaf(n));
            assert!(full.iter().all(|t| t.hashes.len() == TILE_WIDTH));
            shelf.put(full);
            let size = n + 1;
            if size % 4099 == 0 || [1, 255, 256, 257, 65_535, 65_536, 65_537].contains(&size) {
                assert_eq!(edge.frontier(), tree, "{size}");
                shelf.put(edge.partial());
                let again = Edge::restore(size, |id, width| shelf.read(id, 0..width));
                assert_eq!(again, Ok(edge.clone()), "{size}");
            }
        }
        // One that stands further behind is found in the same tiles.
        let before = Edge::restore(300, |id, width| shelf.read(id, 0..width)).map(|e| e.frontier());
        let mut of_300 = Frontier::new();
        (0..300).for_each(|n| of_300.append(leaf(n)));
        assert_eq!(before, Ok(of_300));
    }

    #[test]
    fn proofs_from_tiles_are_those_from_leaves() {
        let (shelf, mut edge, mut full) = (Shelf::default(), Edge::new(), Vec::new());
        let leaves: Vec<_> = (0..1500).map(leaf).collect();
        leaves.iter().for_each(|l| edge.append(*l, &mut full));
        shelf.put(full);
        shelf.put(edge.partial());
        let tiles = Tiled(|id, places| shelf.read(id, places));
        for size in [1, 2, 255, 256, 257, 511, 1024, 1499, 1500] {
            for at in (0..size).step_by(37).chain([size - 1]) {
                let from_leaves = prove_inclusion(at, size, leaves.as_slice());
                assert_eq!(prove_inclusion(at, size, &tiles).ok(), from_leaves.ok(), "{at} in {size}");
                let from_leaves = prove_consistency(at, size, leaves.as_slice());
                assert_eq!(prove_consistency(at, size, &tiles).ok(), from_leaves.ok(), "{at} to {size}");
            }
        }
    }
}
