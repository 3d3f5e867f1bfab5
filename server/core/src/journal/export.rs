//! The journal as a file: JSON lines, a header first, verified without a server.
//!
//! Decides the format. A line holds the stored bytes themselves, so that what is verified is what was hashed.

use super::{
    tree::Hash,
    verify::{Verdict, Verifier},
};
use crate::ports::{StoredRecord, TreeRoot};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto_types::Position;
use serde::{Deserialize, Serialize};

const FORMAT: u64 = 1;

/// What the first line of a selection says, and whoever is asked to verify one.
const UNPROVEN: &str = "this is a selection of records: completeness is not claimed, and nothing in it is proven; \
                        compare its leaves with those of a whole export";

/// The first line: which store, and the root the lines must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportHeader {
    pub store_id: String,
    pub root: TreeRoot,
}

/// What is wrong with an export before any record was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    #[error("this is not a journal export: its first line {0}")]
    Header(String),
    #[error("the export has format {0}, this program reads format {FORMAT}; use a newer one")]
    Format(u64),
    #[error("{UNPROVEN}")]
    Selection,
}

#[derive(Serialize, Deserialize)]
struct HeaderLine {
    errand_journal_export: u64,
    store_id: String,
    size: u64,
    root: String,
}

/// The first line of a selection: another key than a whole export's, so that none is taken for the other.
#[derive(Serialize, Deserialize)]
struct SelectionLine {
    errand_journal_selection: u64,
    store_id: String,
    size: u64,
    root: String,
    note: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    position: u64,
    leaf: String,
    body: String,
    #[serde(default)]
    private: Vec<PrivateLine>,
}

#[derive(Serialize, Deserialize)]
struct PrivateLine {
    field: String,
    salt: String,
    value: String,
}

fn line_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("invariant: strings and numbers always serialise")
}

/// The first line, without a line end.
pub fn export_header(header: &ExportHeader) -> String {
    line_of(&HeaderLine {
        errand_journal_export: FORMAT,
        store_id: header.store_id.clone(),
        size: header.root.size,
        root: hex::encode(header.root.root),
    })
}

/// The first line of an export that leaves records out, without a line end. It names the root of the whole journal that
/// was read, and claims nothing for its lines.
pub fn selection_header(header: &ExportHeader) -> String {
    line_of(&SelectionLine {
        errand_journal_selection: FORMAT,
        store_id: header.store_id.clone(),
        size: header.root.size,
        root: hex::encode(header.root.root),
        note: UNPROVEN.into(),
    })
}

/// One record's line, without a line end: leaf in hex, body and salts in base64.
pub fn export_line(record: &StoredRecord) -> String {
    let private = record.private.iter().map(|(field, salt, value)| PrivateLine {
        field: field.clone(),
        salt: STANDARD.encode(salt),
        value: value.clone(),
    });
    line_of(&Line {
        position: record.position.0,
        leaf: hex::encode(record.leaf),
        body: STANDARD.encode(&record.body),
        private: private.collect(),
    })
}

fn hash(text: &str) -> Result<Hash, String> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).map_err(|_| "a hash is 64 hexadecimal digits".to_string())?;
    Ok(out)
}

/// Reads [`export_line`] back; the error says what is wrong with the line.
pub fn parse_line(line: &str) -> Result<StoredRecord, String> {
    let line: Line = serde_json::from_str(line).map_err(|e| format!("its line cannot be read: {e}"))?;
    let base64 = |text: &str| STANDARD.decode(text).map_err(|_| "its line holds bytes that are not base64".to_string());
    let private = line.private.into_iter().map(|p| Ok((p.field, base64(&p.salt)?, p.value)));
    Ok(StoredRecord {
        position: Position(line.position),
        leaf: hash(&line.leaf)?,
        body: base64(&line.body)?,
        private: private.collect::<Result<_, String>>()?,
    })
}

fn parse_header(line: &str) -> Result<ExportHeader, ExportError> {
    if serde_json::from_str::<SelectionLine>(line).is_ok() {
        return Err(ExportError::Selection);
    }
    let line: HeaderLine =
        serde_json::from_str(line).map_err(|e| ExportError::Header(format!("cannot be read: {e}")))?;
    if line.errand_journal_export != FORMAT {
        return Err(ExportError::Format(line.errand_journal_export));
    }
    let root = hash(&line.root).map_err(ExportError::Header)?;
    Ok(ExportHeader { store_id: line.store_id, root: TreeRoot { size: line.size, root } })
}

/// Verifies an export line by line.
#[derive(Debug)]
pub struct ExportVerifier {
    header: ExportHeader,
    verifier: Verifier,
}

impl ExportVerifier {
    pub fn new(first_line: &str) -> Result<Self, ExportError> {
        let header = parse_header(first_line)?;
        Ok(Self { verifier: Verifier::new([header.root]), header })
    }
    pub fn header(&self) -> &ExportHeader {
        &self.header
    }
    /// `false` when something bad was found: more lines change nothing. A line behind the header's root is bad: nothing
    /// vouches for it.
    pub fn line(&mut self, line: &str) -> bool {
        let limit = self.header.root.size;
        if self.verifier.size() >= limit {
            self.verifier.refuse(format!("it stands behind the {limit} records the header vouches for"));
            return false;
        }
        match parse_line(line) {
            Ok(record) => self.verifier.feed(&record),
            Err(why) => {
                self.verifier.refuse(why);
                false
            }
        }
    }
    /// There are no more lines.
    pub fn finish(self) -> Verdict {
        self.verifier.finish()
    }
}

/// Verifies a whole export. Empty lines at the end are nothing.
pub fn verify_export<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Result<Verdict, ExportError> {
    let mut lines = lines.into_iter();
    let first = lines.next().ok_or_else(|| ExportError::Header("is missing".into()))?;
    let mut verifier = ExportVerifier::new(first.as_ref())?;
    for line in lines {
        let line = line.as_ref().trim_end();
        if !line.is_empty() && !verifier.line(line) {
            break;
        }
    }
    Ok(verifier.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        canonical::{
            encode,
            tests::{Counting, full},
        },
        tree::Frontier,
    };

    fn export(n: u64) -> Vec<String> {
        let (entropy, mut tree, mut lines) = (Counting::default(), Frontier::new(), Vec::new());
        for position in 0..n {
            let one = encode(&full(), &entropy).unwrap();
            tree.append(one.leaf);
            let (leaf, body, private) = (one.leaf, one.body, one.private);
            lines.push(export_line(&StoredRecord { position: Position(position), leaf, body, private }));
        }
        let root = TreeRoot { size: n, root: tree.root() };
        lines.insert(0, export_header(&ExportHeader { store_id: "k3m9x".into(), root }));
        lines
    }

    #[test]
    fn an_export_is_verified_without_a_server() {
        assert!(matches!(verify_export(export(5)), Ok(Verdict::Ok { size: 5, .. })));
        assert!(matches!(verify_export(export(0)), Ok(Verdict::Ok { size: 0, .. })));
    }

    #[test]
    fn a_line_that_was_cut_changed_removed_or_added_is_named() {
        let at = |lines: Vec<String>| match verify_export(lines).unwrap() {
            Verdict::Bad { position, .. } => position.0,
            other => panic!("{other:?}"),
        };
        let mut cut = export(5);
        let keep = cut[3].len() / 2;
        cut[3].truncate(keep);
        assert_eq!(at(cut), 2);
        let mut changed = export(5);
        changed[4] = changed[4].replace("kim@example.org", "tim@example.org");
        assert_eq!(at(changed), 3);
        let mut removed = export(5);
        removed.pop();
        assert_eq!(at(removed), 4);
        let mut added = export(6);
        added[0] = export(5).remove(0);
        assert_eq!(at(added), 5);
    }

    #[test]
    fn a_selection_says_that_it_proves_nothing_and_is_not_verified() {
        let whole = export(5);
        let header = parse_header(&whole[0]).unwrap();
        let selection = selection_header(&header);
        assert!(selection.contains("completeness is not claimed") && selection.contains("\"size\":5"), "{selection}");
        assert_eq!(verify_export([&selection, &whole[2]]), Err(ExportError::Selection));
        // All the lines of the journal under that header prove no more.
        let mut dressed = whole.clone();
        dressed[0] = selection;
        assert_eq!(verify_export(dressed), Err(ExportError::Selection));
        assert!(matches!(verify_export(whole), Ok(Verdict::Ok { size: 5, .. })));
    }

    #[test]
    fn what_is_no_export_is_said_to_be_none() {
        assert!(matches!(verify_export([""; 0]), Err(ExportError::Header(_))));
        assert!(matches!(verify_export(["{}"]), Err(ExportError::Header(_))));
        let newer = export(1)[0].replace("\"errand_journal_export\":1", "\"errand_journal_export\":2");
        assert_eq!(verify_export([newer]), Err(ExportError::Format(2)));
    }
}
