//! Verifying an export line by line: against its root, and the root against whom the reader believes.
//!
//! Decides which export is accepted and which record is the first that is wrong. A whole export must come to its root; a
//! selection proves each of its records by itself, and nothing about those it leaves out.

use super::{ExportHeader, parse_header, parse_line};
use crate::{
    journal::{
        threads,
        verify::{Verdict, Verifier, check, examine},
    },
    ports::TreeRoot,
};
use proto_tlog::{Checkpoint, Hash, NoteError, VerifierKey, verify_consistency, verify_inclusion};
use proto_types::Position;

/// What is wrong with an export before any record was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    #[error("this is not a journal export: its first line {0}")]
    Header(String),
    #[error("the export has format {0}, this program reads format {format}; use a newer one", format = super::FORMAT)]
    Format(u64),
    #[error("the export carries no signed checkpoint: nobody vouches for its root")]
    Unsigned,
    #[error("the checkpoint of the export: {0}")]
    Checkpoint(NoteError),
    #[error("the export says another root or size than its checkpoint: one of them was replaced")]
    OtherRoot,
    #[error("the witness: {0}")]
    Witness(NoteError),
    #[error("the export does not continue a checkpoint that was signed before: the journal was forked or rewritten")]
    Forked,
    #[error(
        "the export ends behind {size} records, and a checkpoint over {seen} was signed before: records were cut off, or an old \
         checkpoint is shown again"
    )]
    Older { size: u64, seen: u64 },
    #[error("the older checkpoint is of `{0}`, another journal")]
    OtherJournal(String),
    #[error(
        "the export begins at position {start}, and the older checkpoint is over {seen} records that are no longer kept: a \
         running server proves that its journal continues it"
    )]
    Pruned { start: u64, seen: u64 },
    #[error("a selection does not prove how it continues an older checkpoint; export the whole journal for that")]
    SelectionSince,
}

/// Whom a reader believes; nobody, when it is empty: then an export is compared with its own root only.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The journal's key.
    pub key: Option<VerifierKey>,
    /// A witness, whose signature must stand under a checkpoint that the export continues.
    pub witness: Option<VerifierKey>,
    /// Checkpoints seen before, by any key that was believed then: the export must continue each.
    pub seen: Vec<Checkpoint>,
}

/// What a witness vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub name: String,
    pub size: u64,
    /// Seconds since the Unix epoch, by the witness's own clock.
    pub time: u64,
}

/// Verifies an export line by line.
#[derive(Debug)]
pub struct ExportVerifier {
    header: ExportHeader,
    witness: Option<Witness>,
    records: Records,
}

#[derive(Debug)]
enum Records {
    Whole(Verifier),
    Selection(Selected),
}

impl ExportVerifier {
    pub fn new(first_line: &str, trust: &Trust) -> Result<Self, ExportError> {
        let header = parse_header(first_line)?;
        signed(&header, trust.key.as_ref())?;
        let mut roots = vec![header.root];
        let witness = match &trust.witness {
            Some(key) => {
                let (witness, root) = witnessed(&header, trust.key.as_ref(), key)?;
                roots.push(root);
                Some(witness)
            }
            None => None,
        };
        for seen in &trust.seen {
            roots.push(continued(&header, seen)?);
        }
        let records = if header.selection {
            Records::Selection(Selected { root: header.root, count: 0, next: 0, found: None })
        } else {
            Records::Whole(Verifier::behind(header.pruned.clone(), roots))
        };
        Ok(Self { header, witness, records })
    }

    pub fn header(&self) -> &ExportHeader {
        &self.header
    }
    /// What the witness vouches for that was asked for.
    pub fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref()
    }

    /// Whether the export continues a checkpoint over records of which some are no longer kept: `path` is the proof
    /// (RFC 6962 section 2.1.2) that a server gave for it.
    pub fn continues(&self, seen: &Checkpoint, path: &[Hash]) -> Result<(), ExportError> {
        let root = match continued(&self.header, seen) {
            Ok(root) => root,
            Err(ExportError::Pruned { .. }) => root_of(seen),
            Err(other) => return Err(other),
        };
        let TreeRoot { size, root: newest } = self.header.root;
        match verify_consistency(root.size, &root.root, size, &newest, path) {
            true => Ok(()),
            false => Err(ExportError::Forked),
        }
    }

    /// Takes the next lines, without their ends. `false` when something bad was found: more lines change nothing.
    pub fn lines<S: AsRef<str> + Sync>(&mut self, lines: &[S]) -> bool {
        match &mut self.records {
            Records::Whole(verifier) => {
                let limit = self.header.root.size;
                let read = threads::each(lines, |line| {
                    let (record, _) = parse_line(line.as_ref())?;
                    Ok((record.position, record.leaf, examine(&record)))
                });
                read.into_iter().all(|read| whole(verifier, limit, read))
            }
            Records::Selection(selected) => {
                let root = selected.root;
                let read = threads::each(lines, |line| included(line.as_ref(), root));
                read.into_iter().all(|read| selected.take(read))
            }
        }
    }

    /// There are no more lines.
    pub fn finish(self) -> Verdict {
        match self.records {
            Records::Whole(verifier) => verifier.finish(),
            Records::Selection(selected) => selected.finish(),
        }
    }
}

/// A line as it was read, with what its record says, or what is wrong with it by itself.
type Read<T> = Result<(Position, Hash, Result<T, String>), String>;

/// A line behind the header's root is bad: nothing vouches for it.
fn whole(verifier: &mut Verifier, limit: u64, read: Read<Option<Position>>) -> bool {
    if verifier.size() >= limit {
        verifier.refuse(format!("it stands behind the {limit} records the header vouches for"));
        return false;
    }
    match read {
        Ok((position, leaf, checked)) => verifier.take(position, leaf, checked),
        Err(why) => {
            verifier.refuse(why);
            false
        }
    }
}

/// Records of a selection, each by itself, in the order of the journal.
#[derive(Debug)]
struct Selected {
    root: TreeRoot,
    count: u64,
    /// The least position that the next record may have.
    next: u64,
    found: Option<Verdict>,
}

fn included(line: &str, root: TreeRoot) -> Read<()> {
    let (record, path) = parse_line(line)?;
    let proven = || {
        check(&record)?;
        let path = path.as_ref().ok_or("it carries no path to the root")?;
        if verify_inclusion(&record.leaf, record.position.0, root.size, path, &root.root) {
            return Ok(());
        }
        Err(format!("its path does not lead to the root over {} records: it is not in this journal there", root.size))
    };
    Ok((record.position, record.leaf, proven()))
}

impl Selected {
    fn take(&mut self, read: Read<()>) -> bool {
        if self.found.is_some() {
            return false;
        }
        let bad = match read {
            // Where a line that cannot be read should stand is not known: it is behind the one before.
            Err(why) => Some((Position(self.next), why)),
            Ok((position, ..)) if position.0 < self.next => {
                Some((position, "it stands behind a later record, or twice".into()))
            }
            Ok((position, _, Err(why))) => Some((position, why)),
            Ok((position, _, Ok(()))) => {
                self.count += 1;
                self.next = position.0.saturating_add(1);
                None
            }
        };
        self.found = bad.map(|(position, why)| Verdict::Bad { position, why });
        self.found.is_none()
    }

    fn finish(self) -> Verdict {
        let TreeRoot { size, root } = self.root;
        self.found.unwrap_or(Verdict::Included { records: self.count, size, root })
    }
}

/// The header's checkpoint says what the header says, and the key signed it when one is believed.
fn signed(header: &ExportHeader, key: Option<&VerifierKey>) -> Result<(), ExportError> {
    let Some(note) = &header.checkpoint else {
        return if key.is_some() { Err(ExportError::Unsigned) } else { Ok(()) };
    };
    let claims = match key {
        Some(key) => note.verify(key).map(|verified| verified.checkpoint().clone()),
        None => note.claims(),
    };
    let claims = claims.map_err(ExportError::Checkpoint)?;
    let of_store = claims.origin.rsplit('/').next() == Some(header.store_id.as_str());
    if root_of(&claims) != header.root || !of_store {
        return Err(ExportError::OtherRoot);
    }
    Ok(())
}

fn root_of(checkpoint: &Checkpoint) -> TreeRoot {
    TreeRoot { size: checkpoint.size, root: checkpoint.root }
}

/// The newest checkpoint that the witness signed, whose root the export must continue.
fn witnessed(
    header: &ExportHeader,
    key: Option<&VerifierKey>,
    witness: &VerifierKey,
) -> Result<(Witness, TreeRoot), ExportError> {
    let newest = header.checkpoint.as_ref().ok_or(ExportError::Unsigned)?;
    let earlier = header.witnessed.as_ref();
    let (note, path) = match (newest.verify(witness), earlier) {
        (Err(NoteError::Unsigned(_)), Some(earlier)) => (&earlier.checkpoint, Some(&earlier.consistency)),
        _ => (newest, None),
    };
    let verified = note.verify(witness).map_err(ExportError::Witness)?;
    if let Some(key) = key {
        note.verify(key).map_err(ExportError::Checkpoint)?;
    }
    let root = root_of(verified.checkpoint());
    if let Some(path) = path
        && !verify_consistency(root.size, &root.root, header.root.size, &header.root.root, path)
    {
        return Err(ExportError::Forked);
    }
    let (name, time) = (witness.name().to_string(), verified.time().unwrap_or_default());
    Ok((Witness { name, size: root.size, time }, root))
}

/// The root of a checkpoint seen before, when this export can show that it continues it.
fn continued(header: &ExportHeader, seen: &Checkpoint) -> Result<TreeRoot, ExportError> {
    let size = header.root.size;
    if seen.origin.rsplit('/').next() != Some(header.store_id.as_str()) {
        return Err(ExportError::OtherJournal(seen.origin.clone()));
    }
    if seen.size > size {
        return Err(ExportError::Older { size, seen: seen.size });
    }
    if header.selection && root_of(seen) != header.root {
        return Err(if seen.size == size { ExportError::Forked } else { ExportError::SelectionSince });
    }
    match header.pruned.size() {
        start if seen.size < start => Err(ExportError::Pruned { start, seen: seen.size }),
        _ => Ok(root_of(seen)),
    }
}

/// Verifies a whole file. Empty lines at the end are nothing.
pub fn verify_export<S: AsRef<str>>(lines: impl IntoIterator<Item = S>, trust: &Trust) -> Result<Verdict, ExportError> {
    let mut lines = lines.into_iter();
    let first = lines.next().ok_or_else(|| ExportError::Header("is missing".into()))?;
    let mut verifier = ExportVerifier::new(first.as_ref(), trust)?;
    for line in lines {
        let line = line.as_ref().trim_end();
        if !line.is_empty() && !verifier.lines(&[line]) {
            break;
        }
    }
    Ok(verifier.finish())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
