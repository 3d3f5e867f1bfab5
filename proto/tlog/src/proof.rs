//! Inclusion and consistency proofs: RFC 9162 sections 2.1.3 and 2.1.4 (the trees of RFC 6962).
//!
//! Decides whether a leaf is in a tree and whether one tree continues another. Where the hashes of a tree lie is its
//! holder's: leaves in memory, or tiles in a store.

use crate::tree::{Frontier, Hash, node_hash};
use std::convert::Infallible;

/// The hashes of a tree, wherever they lie.
pub trait Nodes {
    type Error;
    /// The root over the leaves `from..to`. `from` is a multiple of the least power of two not below `to - from`.
    fn root(&self, from: u64, to: u64) -> Result<Hash, Self::Error>;
}

/// All leaves in memory. Proofs are asked for trees that they hold.
impl Nodes for [Hash] {
    type Error = Infallible;
    fn root(&self, from: u64, to: u64) -> Result<Hash, Infallible> {
        Ok(root_of(&self[from as usize..to as usize]))
    }
}

/// The largest power of two below `n`; `n` is at least 2.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

pub(crate) fn root_of(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    tree.root()
}

/// The audit path of the leaf at `index` in the tree of `size` leaves, nearest sibling first. `None` when there is no
/// such leaf.
pub fn prove_inclusion<N: Nodes + ?Sized>(index: u64, size: u64, nodes: &N) -> Result<Option<Vec<Hash>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(nodes.root(middle, to)?);
            to = middle;
        } else {
            path.push(nodes.root(from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// The proof that the tree over the first `new` leaves continues the one over the first `old`. `None` when there are
/// fewer.
pub fn prove_consistency<N: Nodes + ?Sized>(old: u64, new: u64, nodes: &N) -> Result<Option<Vec<Hash>>, N::Error> {
    if old > new {
        return Ok(None);
    }
    let (mut from, mut to, mut path) = (0, new, Vec::new());
    if old == 0 || old == new {
        return Ok(Some(path));
    }
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(nodes.root(middle, to)?);
            to = middle;
        } else {
            path.push(nodes.root(from, middle)?);
            from = middle;
        }
    }
    // The old root itself is known to the verifier when it is a subtree on the left edge.
    if from > 0 {
        path.push(nodes.root(from, to)?);
    }
    path.reverse();
    Ok(Some(path))
}

/// Whether `leaf` stands at `index` of the tree of `size` leaves with this root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether the tree (`new_size`, `new_root`) continues the tree (`old_size`, `old_root`).
pub fn verify_consistency(old_size: u64, old_root: &Hash, new_size: u64, new_root: &Hash, path: &[Hash]) -> bool {
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return path.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return path.is_empty() && *old_root == crate::tree::empty_root();
    }
    let mut path = path.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;

    fn leaves(n: u8) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&[i])).collect()
    }

    #[test]
    fn the_known_tree_has_the_known_paths() {
        let leaves: Vec<_> = crate::tree::tests::known().iter().map(|(leaf, _)| leaf_hash(leaf)).collect();
        let shown = |path: Vec<Hash>| path.iter().map(hex::encode).collect::<Vec<_>>();
        assert_eq!(
            shown(prove_inclusion(0, 8, leaves.as_slice()).unwrap().unwrap()),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        assert_eq!(
            shown(prove_consistency(6, 8, leaves.as_slice()).unwrap().unwrap()),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn every_leaf_of_every_tree_is_proven_where_it_is_and_nowhere_else() {
        for size in 1..=33u8 {
            let leaves = leaves(size);
            let root = root_of(&leaves);
            for index in 0..u64::from(size) {
                let path = prove_inclusion(index, size.into(), leaves.as_slice()).unwrap().unwrap();
                let leaf = &leaves[index as usize];
                assert!(verify_inclusion(leaf, index, size.into(), &path, &root));
                assert!(!verify_inclusion(&leaf_hash(b"x"), index, size.into(), &path, &root));
                assert!(!verify_inclusion(leaf, index + 1, size.into(), &path, &root));
                assert!(!verify_inclusion(leaf, index, size.into(), &path, &leaf_hash(b"x")));
                let longer = [path.as_slice(), &[root]].concat();
                assert!(!verify_inclusion(leaf, index, size.into(), &longer, &root));
            }
            assert!(prove_inclusion(size.into(), size.into(), leaves.as_slice()).unwrap().is_none());
        }
    }

    #[test]
    fn every_tree_continues_each_of_its_beginnings_and_no_other_tree() {
        for new in 0..=33u8 {
            let all = leaves(new);
            let new_root = root_of(&all);
            for old in 0..=new {
                let old_root = root_of(&all[..old.into()]);
                let path = prove_consistency(old.into(), new.into(), all.as_slice()).unwrap().unwrap();
                let holds = |a: &Hash, b: &Hash| verify_consistency(old.into(), a, new.into(), b, &path);
                assert!(holds(&old_root, &new_root), "{old} → {new}");
                assert!(!holds(&leaf_hash(b"x"), &new_root), "{old} → {new}");
                assert!(old == 0 || !holds(&old_root, &leaf_hash(b"x")), "{old} → {new}");
            }
            assert!(prove_consistency(u64::from(new) + 1, new.into(), all.as_slice()).unwrap().is_none());
        }
    }
}
