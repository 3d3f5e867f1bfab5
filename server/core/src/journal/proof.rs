//! Inclusion and consistency proofs: RFC 9162 sections 2.1.3 and 2.1.4 (the trees of RFC 6962).
//!
//! Decides whether a leaf is in a tree and whether one tree continues another. Proving wants the leaves in memory.

use super::tree::{Frontier, Hash, node_hash};

/// The largest power of two below `n`; `n` is at least 2.
fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

fn root_of(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    tree.root()
}

/// The audit path of the leaf at `index`, nearest sibling first. `None` when there is no such leaf.
pub fn prove_inclusion(index: u64, leaves: &[Hash]) -> Option<Vec<Hash>> {
    let mut index = usize::try_from(index).ok().filter(|i| *i < leaves.len())?;
    let (mut rest, mut path) = (leaves, Vec::new());
    while rest.len() > 1 {
        let (left, right) = rest.split_at(split(rest.len()));
        if index < left.len() {
            path.push(root_of(right));
            rest = left;
        } else {
            path.push(root_of(left));
            index -= left.len();
            rest = right;
        }
    }
    path.reverse();
    Some(path)
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

/// The proof that the tree over all `leaves` continues the one over the first `old`. `None` when there are fewer.
pub fn prove_consistency(old: u64, leaves: &[Hash]) -> Option<Vec<Hash>> {
    let mut old = usize::try_from(old).ok().filter(|n| *n <= leaves.len())?;
    let (mut rest, mut path, mut whole) = (leaves, Vec::new(), true);
    if old == 0 || old == leaves.len() {
        return Some(path);
    }
    while old != rest.len() {
        let (left, right) = rest.split_at(split(rest.len()));
        if old <= left.len() {
            path.push(root_of(right));
            rest = left;
        } else {
            path.push(root_of(left));
            old -= left.len();
            rest = right;
            whole = false;
        }
    }
    // The old root itself is known to the verifier when it is a subtree on the left edge.
    if !whole {
        path.push(root_of(rest));
    }
    path.reverse();
    Some(path)
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
        return path.is_empty() && *old_root == super::tree::empty_root();
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
    use crate::journal::tree::leaf_hash;

    fn leaves(n: u8) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&[i])).collect()
    }

    #[test]
    fn the_known_tree_has_the_known_paths() {
        let leaves: Vec<_> = super::super::tree::tests::known().iter().map(|(leaf, _)| leaf_hash(leaf)).collect();
        let shown = |path: Vec<Hash>| path.iter().map(hex::encode).collect::<Vec<_>>();
        assert_eq!(
            shown(prove_inclusion(0, &leaves).unwrap()),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        assert_eq!(
            shown(prove_consistency(6, &leaves).unwrap()),
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
                let path = prove_inclusion(index, &leaves).unwrap();
                let leaf = &leaves[index as usize];
                assert!(verify_inclusion(leaf, index, size.into(), &path, &root));
                assert!(!verify_inclusion(&leaf_hash(b"x"), index, size.into(), &path, &root));
                assert!(!verify_inclusion(leaf, index + 1, size.into(), &path, &root));
                assert!(!verify_inclusion(leaf, index, size.into(), &path, &leaf_hash(b"x")));
                let longer = [path.as_slice(), &[root]].concat();
                assert!(!verify_inclusion(leaf, index, size.into(), &longer, &root));
            }
            assert!(prove_inclusion(size.into(), &leaves).is_none());
        }
    }

    #[test]
    fn every_tree_continues_each_of_its_beginnings_and_no_other_tree() {
        for new in 0..=33u8 {
            let all = leaves(new);
            let new_root = root_of(&all);
            for old in 0..=new {
                let old_root = root_of(&all[..old.into()]);
                let path = prove_consistency(old.into(), &all).unwrap();
                let holds = |a: &Hash, b: &Hash| verify_consistency(old.into(), a, new.into(), b, &path);
                assert!(holds(&old_root, &new_root), "{old} → {new}");
                assert!(!holds(&leaf_hash(b"x"), &new_root), "{old} → {new}");
                assert!(old == 0 || !holds(&old_root, &leaf_hash(b"x")), "{old} → {new}");
            }
            assert!(prove_consistency(u64::from(new) + 1, &all).is_none());
        }
    }
}
