//! Verifying a journal as a stream: what is stored against what was hashed.
//!
//! Decides which record is the first that is not what was written, or between which two roots hashes were replaced.
//! Needs no store: an export is verified the same way.

use super::{canonical::check_body, prune::pruned_before, threads};
use crate::ports::{StoredRecord, TreeRoot};
use proto_tlog::{Frontier, Hash, leaf_hash};
use proto_types::Position;
use std::collections::VecDeque;

/// What a verifier found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok {
        size: u64,
        root: Hash,
    },
    /// Each of these records is in the journal with this root, at its place; which others there are is not said.
    Included {
        records: u64,
        size: u64,
        root: Hash,
    },
    /// The first record that is missing or not what was written.
    Bad {
        position: Position,
        why: String,
    },
    /// Every record fits its own hash, but the hashes of positions `from..to` are not those the root at `to` was
    /// computed from: at least one of them was replaced together with its leaf.
    Rewritten {
        from: u64,
        to: u64,
    },
}

/// One record by itself: leaf over body, version, canonical form, private values.
pub fn check(record: &StoredRecord) -> Result<(), String> {
    examine(record).map(drop)
}

/// The same; answers before which position the record says that none are kept.
pub(super) fn examine(record: &StoredRecord) -> Result<Option<Position>, String> {
    if leaf_hash(&record.body) != record.leaf {
        return Err("its bytes are not those that were hashed".into());
    }
    let record = check_body(&record.body, &record.private).map_err(|e| e.to_string())?;
    Ok(pruned_before(&record))
}

/// Fed with every record that is kept, in order.
#[derive(Debug)]
pub struct Verifier {
    tree: Frontier,
    /// The position of the first record fed.
    start: u64,
    /// Before which position a record said that none are kept.
    excused: u64,
    roots: VecDeque<TreeRoot>,
    /// The size at the last root that fit.
    proven: u64,
    found: Option<Verdict>,
}

impl Verifier {
    /// `roots`: those written down, in any order; the more there are, the narrower a rewriting is told.
    pub fn new(roots: impl IntoIterator<Item = TreeRoot>) -> Self {
        Self::behind(Frontier::new(), roots)
    }

    /// Of the records behind `pruned`: that tree is believed when what follows comes to the roots, and its records may be
    /// missing when one of those that follow says so. Roots over fewer records cannot be compared and tell nothing.
    pub fn behind(pruned: Frontier, roots: impl IntoIterator<Item = TreeRoot>) -> Self {
        let start = pruned.size();
        let mut roots: Vec<_> = roots.into_iter().filter(|root| root.size >= start).collect();
        roots.sort_unstable_by_key(|r| r.size);
        let mut verifier = Self { tree: pruned, start, excused: 0, roots: roots.into(), proven: start, found: None };
        verifier.compare();
        verifier
    }

    /// Takes the next record. `false` when something bad was found: more records change nothing.
    pub fn feed(&mut self, record: &StoredRecord) -> bool {
        self.found.is_none() && self.take(record.position, record.leaf, examine(record))
    }

    /// Takes the next records, which are examined on every core.
    pub fn feed_all(&mut self, records: &[StoredRecord]) -> bool {
        let checked = threads::each(records, examine);
        records.iter().zip(checked).all(|(record, checked)| self.take(record.position, record.leaf, checked))
    }

    /// Takes a record that was examined by itself.
    pub(super) fn take(&mut self, position: Position, leaf: Hash, checked: Result<Option<Position>, String>) -> bool {
        if self.found.is_some() {
            return false;
        }
        let expected = Position(self.tree.size());
        let read = match checked {
            _ if position != expected => {
                Err(format!("it is missing: the next record there is says position {}", position.0))
            }
            checked => checked,
        };
        match read {
            Err(why) => self.found = Some(Verdict::Bad { position: expected, why }),
            Ok(pruned) => {
                self.excused = self.excused.max(pruned.map_or(0, |before| before.0));
                self.tree.append(leaf);
                self.compare();
            }
        }
        self.found.is_none()
    }

    /// The number of records so far, those that are no longer kept among them.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Marks the next record as unreadable.
    pub(super) fn refuse(&mut self, why: String) {
        self.found.get_or_insert(Verdict::Bad { position: Position(self.tree.size()), why });
    }

    fn compare(&mut self) {
        while let Some(expected) = self.roots.front().copied().filter(|r| r.size <= self.tree.size()) {
            if expected.root != self.tree.root() {
                self.found = Some(Verdict::Rewritten { from: self.proven, to: expected.size });
                return;
            }
            self.proven = expected.size;
            self.roots.pop_front();
        }
    }

    /// There are no more records.
    pub fn finish(self) -> Verdict {
        if let Some(found) = self.found {
            return found;
        }
        let size = self.tree.size();
        if self.excused < self.start {
            let why = "it is missing, and no record says that it was let go".into();
            return Verdict::Bad { position: Position(self.excused), why };
        }
        match self.roots.back() {
            Some(root) => Verdict::Bad {
                position: Position(size),
                why: format!("it is missing: a root over {} records was written down, {size} are there", root.size),
            },
            None => Verdict::Ok { size, root: self.tree.root() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        canonical::{
            encode,
            tests::{Counting, full},
        },
        pruning,
    };
    use std::time::Duration;

    pub fn stored(n: u64) -> Vec<StoredRecord> {
        let entropy = Counting::default();
        (0..n)
            .map(|position| {
                let one = encode(&full(), &entropy).unwrap();
                StoredRecord { position: Position(position), leaf: one.leaf, body: one.body, private: one.private }
            })
            .collect()
    }

    fn root(records: &[StoredRecord]) -> TreeRoot {
        let mut tree = Frontier::new();
        records.iter().for_each(|r| tree.append(r.leaf));
        TreeRoot { size: tree.size(), root: tree.root() }
    }

    fn verdict(records: &[StoredRecord], roots: &[TreeRoot]) -> Verdict {
        let mut verifier = Verifier::new(roots.iter().copied());
        records.iter().all(|r| verifier.feed(r));
        verifier.finish()
    }

    #[test]
    fn an_untouched_journal_is_ok_with_and_without_its_private_values() {
        let mut records = stored(9);
        let whole = root(&records);
        let ok = Verdict::Ok { size: 9, root: whole.root };
        assert_eq!(verdict(&records, &[root(&records[..4]), whole]), ok);
        records[3].private.clear();
        assert_eq!(verdict(&records, &[whole]), ok);
        assert_eq!(verdict(&[], &[]), Verdict::Ok { size: 0, root: proto_tlog::empty_root() });
    }

    #[test]
    fn the_first_record_that_was_edited_dropped_swapped_doubled_or_cut_off_is_named() {
        let good = stored(9);
        let whole = [root(&good)];
        let named = |records: &[StoredRecord], at: u64| match verdict(records, &whole) {
            Verdict::Bad { position, .. } => assert_eq!(position, Position(at)),
            other => panic!("{other:?}"),
        };
        let mut edited = good.clone();
        edited[5].body[20] ^= 1;
        named(&edited, 5);
        let mut private = good.clone();
        private[2].private[1].2.push('!');
        named(&private, 2);
        let mut dropped = good.clone();
        dropped.remove(4);
        named(&dropped, 4);
        let mut swapped = good.clone();
        swapped.swap(6, 7);
        named(&swapped, 6);
        let mut doubled = good.clone();
        doubled.insert(3, good[2].clone());
        named(&doubled, 3);
        named(&good[..8], 8);
    }

    #[test]
    fn a_record_replaced_together_with_its_leaf_is_told_to_the_interval_between_two_roots() {
        let good = stored(9);
        let roots = [root(&good[..3]), root(&good[..6]), root(&good)];
        let mut forged = good.clone();
        let other = encode(&full().outcome("denied"), &Counting::default()).unwrap();
        (forged[4].body, forged[4].leaf, forged[4].private) = (other.body, other.leaf, other.private);
        assert_eq!(verdict(&forged, &roots), Verdict::Rewritten { from: 3, to: 6 });
        assert_eq!(verdict(&forged, &roots[2..]), Verdict::Rewritten { from: 0, to: 9 });
    }

    #[test]
    fn records_may_be_missing_in_front_when_a_later_one_says_so_and_no_more_of_them() {
        let mut records = stored(9);
        let told = encode(&pruning(Position(4), Duration::from_secs(60), full().time), &Counting::default()).unwrap();
        records.push(StoredRecord { position: Position(9), leaf: told.leaf, body: told.body, private: told.private });
        let (whole, early) = (root(&records), root(&records[..2]));
        let front = |n: usize| {
            let mut tree = Frontier::new();
            records[..n].iter().for_each(|r| tree.append(r.leaf));
            tree
        };
        let verdict = |pruned: Frontier, records: &[StoredRecord], roots: &[TreeRoot]| {
            let mut verifier = Verifier::behind(pruned, roots.iter().copied());
            records.iter().all(|r| verifier.feed(r));
            verifier.finish()
        };
        let ok = Verdict::Ok { size: 10, root: whole.root };
        for n in [0, 1, 4] {
            assert_eq!(verdict(front(n), &records[n..], &[whole]), ok);
        }
        // A root over records that are gone cannot be compared.
        assert_eq!(verdict(front(4), &records[4..], &[early, whole]), ok);
        let bad = |verdict: Verdict| match verdict {
            Verdict::Bad { position, .. } => position.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(bad(verdict(front(5), &records[5..], &[whole])), 4, "one more than was said");
        assert_eq!(bad(verdict(front(2), &records[2..9], &[root(&records[..9])])), 0, "nothing was said");
        assert_eq!(bad(verdict(front(4), &records[5..], &[whole])), 4, "one behind them");
        // Another tree in front does not come to the root.
        let mut other = front(3);
        other.append(leaf_hash(b"another"));
        assert_eq!(verdict(other, &records[4..], &[whole]), Verdict::Rewritten { from: 4, to: 10 });
    }
}
