//! Exports as hands change them: each is named, and what was not changed is accepted.

use super::super::{ExportHeader, Witnessed, export_header, export_line};
use super::*;
use crate::{
    journal::{
        canonical::{
            encode,
            tests::{Counting, full},
        },
        pruning,
    },
    ports::StoredRecord,
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proto_tlog::{Frontier, KeyKind, SignedNote, prove_consistency, prove_inclusion};

const STORE: &str = "k3m9x";

struct Signer(Ed25519KeyPair, VerifierKey);

impl Signer {
    fn new(seed: u8, name: &str, kind: KeyKind) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = VerifierKey::new(name, kind, pair.public_key().as_ref().try_into().unwrap()).unwrap();
        Self(pair, key)
    }
    fn log() -> Self {
        Self::new(1, "errand.journal/example.org/k3m9x", KeyKind::Log)
    }
    fn witness() -> Self {
        Self::new(2, "witness.example.org", KeyKind::Witness)
    }
    fn raw(&self, message: &[u8]) -> Result<[u8; 64], ()> {
        Ok(self.0.sign(message).as_ref().try_into().unwrap())
    }
    fn sign(&self, root: TreeRoot) -> SignedNote {
        let checkpoint = Checkpoint { origin: self.1.name().into(), size: root.size, root: root.root };
        SignedNote::of(&checkpoint).sign(&self.1, |m| self.raw(m)).unwrap()
    }
    fn cosign(&self, note: SignedNote) -> SignedNote {
        note.cosign(&self.1, 1_795_000_000, |m| self.raw(m)).unwrap()
    }
}

fn trust() -> Trust {
    Trust { key: Some(Signer::log().1), ..Trust::default() }
}

/// Records whose salts begin at `seed`: two journals of different seeds are forks of each other.
fn records(seed: u8, n: u64) -> Vec<StoredRecord> {
    let entropy = Counting::default();
    let mut skipped = vec![0; seed.into()];
    proto_types::Entropy::fill(&entropy, &mut skipped);
    let one = |position| {
        let one = encode(&full(), &entropy).unwrap();
        StoredRecord { position: Position(position), leaf: one.leaf, body: one.body, private: one.private }
    };
    (0..n).map(one).collect()
}

fn root(records: &[StoredRecord]) -> TreeRoot {
    let mut tree = Frontier::new();
    records.iter().for_each(|r| tree.append(r.leaf));
    TreeRoot { size: tree.size(), root: tree.root() }
}

fn header(records: &[StoredRecord]) -> ExportHeader {
    ExportHeader::whole(STORE, root(records)).signed(Signer::log().sign(root(records)))
}

fn whole(records: &[StoredRecord]) -> Vec<String> {
    let lines = records.iter().map(|r| export_line(r, None));
    std::iter::once(export_header(&header(records))).chain(lines).collect()
}

fn leaves(records: &[StoredRecord]) -> Vec<Hash> {
    records.iter().map(|r| r.leaf).collect()
}

fn selection(records: &[StoredRecord], places: &[usize]) -> Vec<String> {
    let (leaves, size) = (leaves(records), records.len() as u64);
    let line = |at: &usize| {
        let path = prove_inclusion(*at as u64, size, leaves.as_slice()).unwrap().unwrap();
        export_line(&records[*at], Some(&path))
    };
    let header = ExportHeader { selection: true, ..header(records) };
    std::iter::once(export_header(&header)).chain(places.iter().map(line)).collect()
}

fn bad_at(lines: &[String]) -> u64 {
    match verify_export(lines, &trust()).unwrap() {
        Verdict::Bad { position, .. } => position.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_export_is_verified_with_a_key_and_without() {
    for n in [0, 1, 5, 200] {
        let lines = whole(&records(0, n));
        for trust in [trust(), Trust::default()] {
            assert!(matches!(verify_export(&lines, &trust), Ok(Verdict::Ok { size, .. }) if size == n));
        }
        let mut verifier = ExportVerifier::new(&lines[0], &trust()).unwrap();
        assert!(verifier.lines(&lines[1..]), "many at once are as good as one by one");
        assert!(matches!(verifier.finish(), Verdict::Ok { size, .. } if size == n));
    }
}

#[test]
fn a_line_that_was_edited_cut_removed_swapped_doubled_or_added_is_named() {
    let good = records(0, 6);
    let lines = whole(&good);
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        lines
    };
    let cases: [(u64, Vec<String>); 7] = [
        (3, changed(&|l| l[4] = l[4].replace("kim@example.org", "tim@example.org"))),
        (2, changed(&|l| l[3].truncate(60))),
        (4, changed(&|l| drop(l.remove(5)))),
        (1, changed(&|l| l.swap(2, 3))),
        (3, changed(&|l| l.insert(4, l[3].clone()))),
        (5, changed(&|l| drop(l.pop()))),
        (6, changed(&|l| l.push(whole(&records(0, 7)).pop().unwrap()))),
    ];
    for (at, lines) in &cases {
        assert_eq!(bad_at(lines), *at);
        let mut at_once = ExportVerifier::new(&lines[0], &trust()).unwrap();
        assert!(!at_once.lines(&lines[1..]) || *at == 5);
        assert!(matches!(at_once.finish(), Verdict::Bad { position, .. } if position.0 == *at));
    }
    assert!(matches!(verify_export(&lines, &trust()), Ok(Verdict::Ok { size: 6, .. })));
}

#[test]
fn a_record_replaced_with_its_leaf_is_told_to_the_interval_between_checkpoints() {
    let good = records(0, 9);
    let mut forged = good.clone();
    forged[4] = StoredRecord { position: Position(4), ..records(100, 1).remove(0) };
    let lines: Vec<_> =
        std::iter::once(whole(&good).remove(0)).chain(forged.iter().map(|r| export_line(r, None))).collect();
    let seen = [3, 6].map(|n| Signer::log().sign(root(&good[..n])).claims().unwrap()).to_vec();
    let narrow = Trust { seen, ..trust() };
    assert_eq!(verify_export(&lines, &trust()), Ok(Verdict::Rewritten { from: 0, to: 9 }));
    assert_eq!(verify_export(&lines, &narrow), Ok(Verdict::Rewritten { from: 3, to: 6 }));
    assert!(matches!(verify_export(whole(&good), &narrow), Ok(Verdict::Ok { size: 9, .. })));
}

#[test]
fn a_checkpoint_that_is_missing_edited_or_of_other_records_is_refused() {
    let good = records(0, 6);
    let begin = |header: ExportHeader| ExportVerifier::new(&export_header(&header), &trust()).map(drop);
    assert_eq!(begin(header(&good)), Ok(()));
    assert_eq!(begin(ExportHeader { checkpoint: None, ..header(&good) }), Err(ExportError::Unsigned));
    let other = ExportHeader { checkpoint: header(&good[..5]).checkpoint, ..header(&good) };
    assert_eq!(begin(other), Err(ExportError::OtherRoot));
    let edited = Signer::log().sign(root(&good)).to_string().replacen("\n6\n", "\n5\n", 1).parse().unwrap();
    let edited = ExportHeader { checkpoint: Some(edited), ..header(&good) };
    assert!(matches!(begin(edited), Err(ExportError::Checkpoint(NoteError::Forged(_)))));
    let foreign = Signer::new(3, Signer::log().1.name(), KeyKind::Log).sign(root(&good));
    let foreign = header(&good).signed(foreign);
    assert!(matches!(begin(foreign), Err(ExportError::Checkpoint(NoteError::Unsigned(_)))));
    // Of a journal of the same key's name, but another store than the header says.
    assert_eq!(begin(ExportHeader { store_id: "other".into(), ..header(&good) }), Err(ExportError::OtherRoot));
}

#[test]
fn an_old_checkpoint_shown_again_and_a_fork_are_told_by_a_newer_one_seen_before() {
    let (good, fork) = (records(0, 9), records(50, 12));
    let seen = |records: &[StoredRecord]| Trust {
        seen: vec![header(records).checkpoint.unwrap().claims().unwrap()],
        ..trust()
    };
    let replayed = whole(&good[..5]);
    assert!(matches!(verify_export(&replayed, &trust()), Ok(Verdict::Ok { size: 5, .. })), "whole in itself");
    assert_eq!(verify_export(&replayed, &seen(&good[..7])), Err(ExportError::Older { size: 5, seen: 7 }));
    assert_eq!(verify_export(whole(&fork), &seen(&good)), Ok(Verdict::Rewritten { from: 0, to: 9 }));
    assert!(matches!(verify_export(whole(&good), &seen(&good[..7])), Ok(Verdict::Ok { size: 9, .. })));
    let mut elsewhere = seen(&good);
    elsewhere.seen[0].origin = "errand.journal/example.org/other".into();
    assert!(matches!(verify_export(whole(&good), &elsewhere), Err(ExportError::OtherJournal(_))));
}

#[test]
fn a_selection_proves_each_of_its_records_and_claims_no_more() {
    let good = records(0, 9);
    for places in [&[0, 4, 8][..], &[], &[7], &[0, 1, 2, 3, 4, 5, 6, 7, 8]] {
        let verdict = verify_export(selection(&good, places), &trust());
        let Ok(Verdict::Included { records, size: 9, .. }) = verdict else { panic!("{verdict:?}") };
        assert_eq!(records, places.len() as u64);
    }
    assert!(selection(&good, &[1])[0].contains("completeness is not claimed"));
    let single = verify_export(selection(&good[..1], &[0]), &trust());
    assert!(matches!(single, Ok(Verdict::Included { records: 1, size: 1, .. })), "a path of no steps is a path");
}

#[test]
fn a_record_of_a_selection_that_was_edited_moved_or_is_of_another_journal_is_named() {
    let (good, fork) = (records(0, 9), records(50, 9));
    let lines = selection(&good, &[1, 4, 6]);
    let of_fork = selection(&fork, &[4]).remove(1);
    let with = |at: usize, line: String| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines
    };
    assert_eq!(bad_at(&with(2, of_fork)), 4);
    assert_eq!(bad_at(&with(2, lines[2].replace("kim@example.org", "tim@example.org"))), 4);
    assert_eq!(bad_at(&with(2, lines[2].replace("\"position\":4", "\"position\":5"))), 5);
    assert_eq!(bad_at(&with(2, export_line(&good[4], None))), 4, "without its path");
    assert_eq!(bad_at(&with(3, lines[2].clone())), 4, "twice");
    assert_eq!(bad_at(&with(3, lines[1].clone())), 1, "out of order");
    assert_eq!(bad_at(&with(2, "{}".into())), 2, "behind the one before");
    // All the lines of a whole export under a selection's header prove nothing.
    let mut dressed = whole(&good);
    dressed[0] = lines[0].clone();
    assert_eq!(bad_at(&dressed), 0);
    let later = Trust { seen: vec![header(&good[..3]).checkpoint.unwrap().claims().unwrap()], ..trust() };
    assert_eq!(verify_export(&lines, &later), Err(ExportError::SelectionSince));
}

#[test]
fn a_witness_vouches_for_the_newest_checkpoint_or_for_one_that_it_continues() {
    let good = records(0, 9);
    let (log, witness) = (Signer::log(), Signer::witness());
    let asked = Trust { witness: Some(witness.1.clone()), ..trust() };
    let begin = |header: &ExportHeader| ExportVerifier::new(&export_header(header), &asked);
    let consistency = |records: &[StoredRecord]| prove_consistency(5, 9, leaves(records).as_slice()).unwrap().unwrap();
    let earlier = |records: &[StoredRecord]| Witnessed {
        checkpoint: witness.cosign(log.sign(root(&records[..5]))),
        consistency: consistency(&good),
    };
    let vouched = |size| Witness { name: "witness.example.org".into(), size, time: 1_795_000_000 };

    let newest = header(&good).signed(witness.cosign(log.sign(root(&good))));
    assert_eq!(begin(&newest).unwrap().witness(), Some(&vouched(9)));
    for selection in [false, true] {
        let header = ExportHeader { selection, ..header(&good) };
        assert_eq!(
            begin(&header).map(drop),
            Err(ExportError::Witness(NoteError::Unsigned("witness.example.org".into())))
        );
        let continued = header.clone().witnessed(Some(earlier(&good)));
        assert_eq!(begin(&continued).unwrap().witness(), Some(&vouched(5)));
        let forked = header.witnessed(Some(earlier(&records(50, 9))));
        assert_eq!(begin(&forked).map(drop), Err(ExportError::Forked));
    }
    let unsigned = Witnessed {
        checkpoint: witness.cosign(Signer::new(3, log.1.name(), KeyKind::Log).sign(root(&good[..5]))),
        consistency: consistency(&good),
    };
    let unsigned = header(&good).witnessed(Some(unsigned));
    assert!(matches!(begin(&unsigned), Err(ExportError::Checkpoint(NoteError::Unsigned(_)))));
}

/// A journal of 12 whose record 9 says that those before 5 are no longer kept, from position `start` on.
fn pruned(start: usize) -> (Vec<StoredRecord>, Vec<String>) {
    let mut good = records(0, 12);
    let said = pruning(Position(5), std::time::Duration::from_secs(60), full().time);
    let one = encode(&said, &Counting::default()).unwrap();
    good[9] = StoredRecord { position: Position(9), leaf: one.leaf, body: one.body, private: one.private };
    let mut front = Frontier::new();
    good[..start].iter().for_each(|r| front.append(r.leaf));
    let header = export_header(&header(&good).behind(front));
    let lines = std::iter::once(header).chain(good[start..].iter().map(|r| export_line(r, None))).collect();
    (good, lines)
}

#[test]
fn an_export_without_its_oldest_records_is_good_when_one_of_the_others_says_so() {
    for start in [0, 3, 5] {
        let (_, lines) = pruned(start);
        assert!(matches!(verify_export(&lines, &trust()), Ok(Verdict::Ok { size: 12, .. })), "{start}");
        assert_eq!(lines[0].contains("\"errand_journal_export\":2"), start > 0);
    }
    assert_eq!(bad_at(&pruned(6).1), 5, "one more is gone than was said");
    let (_, mut lines) = pruned(5);
    lines.remove(1);
    assert_eq!(bad_at(&lines), 5);
    let header = |change: &dyn Fn(&str) -> String| {
        let (_, lines) = pruned(5);
        ExportVerifier::new(&change(&lines[0]), &trust()).map(drop)
    };
    let said = |result| matches!(result, Err(ExportError::Header(_)));
    assert_eq!(header(&str::to_string), Ok(()));
    assert!(said(header(&|l| l.replace("export\":2", "export\":1"))), "a format of its own");
    assert!(said(header(&|l| l.replace("\"before\":5", "\"before\":7"))), "other roots than of so many");
    assert!(said(header(&|l| l.replace("\"before\":5", "\"before\":17"))), "more than there were");
}

#[test]
fn that_a_checkpoint_over_what_is_gone_is_continued_takes_a_proof() {
    let (good, lines) = pruned(5);
    let seen = |n: usize| Signer::log().sign(root(&good[..n])).claims().unwrap();
    let of = |n: usize| verify_export(&lines, &Trust { seen: vec![seen(n)], ..trust() });
    assert!(matches!(of(5), Ok(Verdict::Ok { .. })));
    assert_eq!(of(4), Err(ExportError::Pruned { start: 5, seen: 4 }));
    let path = |n| prove_consistency(n, 12, leaves(&good).as_slice()).unwrap().unwrap();
    let verifier = ExportVerifier::new(&lines[0], &trust()).unwrap();
    assert_eq!(verifier.continues(&seen(4), &path(4)), Ok(()));
    assert_eq!(verifier.continues(&seen(4), &path(3)), Err(ExportError::Forked));
    let fork = Signer::log().sign(root(&records(50, 4))).claims().unwrap();
    assert_eq!(verifier.continues(&fork, &path(4)), Err(ExportError::Forked));
}

#[test]
fn no_byte_of_an_export_can_be_flipped_unnoticed() {
    let good = records(0, 5);
    for (lines, ok) in [
        (whole(&good), Verdict::Ok { size: 5, root: root(&good).root }),
        (pruned(5).1, Verdict::Ok { size: 12, root: root(&pruned(5).0).root }),
        (selection(&good, &[1, 3]), Verdict::Included { records: 2, size: 5, root: root(&good).root }),
    ] {
        let text = lines.join("\n");
        assert_eq!(verify_export(text.split('\n'), &trust()), Ok(ok.clone()));
        let note = text.find("this is a selection").unwrap_or(0)..text.find("under the root").unwrap_or(0) + 14;
        for at in (0..text.len()).filter(|at| !note.contains(at)) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            let verdict = verify_export(flipped.split('\n'), &trust());
            assert_ne!(
                verdict,
                Ok(ok.clone()),
                "byte {at}: {:?}",
                &text[at.saturating_sub(30)..(at + 10).min(text.len())]
            );
        }
    }
}

#[test]
fn what_is_no_export_is_said_to_be_none() {
    let none = Trust::default();
    assert!(matches!(verify_export([""; 0], &none), Err(ExportError::Header(_))));
    assert!(matches!(verify_export(["{}"], &none), Err(ExportError::Header(_))));
    let first = whole(&records(0, 1)).remove(0);
    let newer = first.replace("\"errand_journal_export\":1", "\"errand_journal_export\":3");
    assert_eq!(verify_export([newer], &none), Err(ExportError::Format(3)));
    assert!(verify_export(whole(&records(0, 1)), &none).is_ok());
}
