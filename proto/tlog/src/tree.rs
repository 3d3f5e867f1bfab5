//! The Merkle tree of RFC 6962 section 2.1 over leaf hashes, kept as its frontier.
//!
//! Decides the hashes and the root. Proofs over it are in `proof`.

use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256 value.
pub type Hash = [u8; 32];

pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The hash of one stored body: SHA-256(0x00 || body).
pub fn leaf_hash(body: &[u8]) -> Hash {
    sha256(&[&[0], body])
}

/// The hash of an inner node: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// The root over no leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The roots of the perfect subtrees that make up a tree, largest first: all that appending needs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frontier {
    pub(crate) size: u64,
    pub(crate) peaks: Vec<Hash>,
}

impl Frontier {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads back [`Frontier::peaks`]. `None` when the bytes do not fit the size.
    pub fn restore(size: u64, peaks: &[u8]) -> Option<Self> {
        let (chunks, rest) = peaks.as_chunks::<32>();
        let fits = rest.is_empty() && chunks.len() == size.count_ones() as usize;
        fits.then(|| Self { size, peaks: chunks.to_vec() })
    }

    /// 32 bytes for each one bit of the size, largest subtree first.
    pub fn peaks(&self) -> Vec<u8> {
        self.peaks.concat()
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right. One hash on average, log2(size) at most.
    pub fn append(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing one bit of the size is a subtree as tall as `node` has become: they join.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Hash {
        self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The eight leaves that implementations of Certificate Transparency test with, and the root over each prefix.
    pub fn known() -> Vec<(Vec<u8>, &'static str)> {
        [
            ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
            ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
            ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
            ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ]
        .into_iter()
        .map(|(leaf, root)| (hex::decode(leaf).unwrap(), root))
        .collect()
    }

    #[test]
    fn roots_are_those_every_implementation_of_the_rfc_knows() {
        let mut tree = Frontier::new();
        assert_eq!(hex::encode(tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (leaf, root) in known() {
            tree.append(leaf_hash(&leaf));
            assert_eq!(hex::encode(tree.root()), root, "size {}", tree.size());
        }
    }

    #[test]
    fn a_frontier_goes_on_from_what_it_wrote_and_from_nothing_else() {
        let mut tree = Frontier::new();
        for n in 0..37u8 {
            let mut again = Frontier::restore(tree.size(), &tree.peaks()).unwrap();
            assert_eq!(again, tree);
            tree.append(leaf_hash(&[n]));
            again.append(leaf_hash(&[n]));
            assert_eq!(again.root(), tree.root());
        }
        assert!(Frontier::restore(37, &tree.peaks()[1..]).is_none());
        assert!(Frontier::restore(36, &tree.peaks()).is_none());
    }
}
