//! The journal as a file: JSON lines, a header first, verified without a server.
//!
//! Decides the format. A line holds the stored bytes themselves, so that what is verified is what was hashed. A whole
//! export is every record; a selection is some, each with its audit path.

mod verifier;

pub use verifier::{ExportError, ExportVerifier, Trust, Witness, verify_export};

use crate::ports::{StoredRecord, TreeRoot};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto_tlog::{Frontier, Hash, SignedNote};
use proto_types::Position;
use serde::{Deserialize, Serialize};

/// The newest format there is, and the oldest that says all: a header says no more than it must.
const FORMAT: u64 = 2;
const OF_ALL: u64 = 1;

/// What the first line of a selection says to those who read it.
const SELECTION: &str = "this is a selection of records: completeness is not claimed; each line carries the path by which \
                         its record is included under the root";

/// The first line: which store, and the root that the lines must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportHeader {
    pub store_id: String,
    pub root: TreeRoot,
    /// Some of the records only: a line each, with its path to the root.
    pub selection: bool,
    /// Of a whole export: the tree over the records in front that are no longer kept.
    pub pruned: Frontier,
    /// The root as the journal's key signed it.
    pub checkpoint: Option<SignedNote>,
    pub witnessed: Option<Witnessed>,
}

/// The newest checkpoint to which a witness signed, and the proof that the root continues it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    pub checkpoint: SignedNote,
    pub consistency: Vec<Hash>,
}

impl ExportHeader {
    /// Of every record.
    pub fn whole(store_id: impl Into<String>, root: TreeRoot) -> Self {
        let (store_id, pruned) = (store_id.into(), Frontier::new());
        Self { store_id, root, selection: false, pruned, checkpoint: None, witnessed: None }
    }
    /// Of some records.
    pub fn selection(store_id: impl Into<String>, root: TreeRoot) -> Self {
        Self { selection: true, ..Self::whole(store_id, root) }
    }
    /// Of every record that is kept.
    pub fn behind(self, pruned: Frontier) -> Self {
        Self { pruned, ..self }
    }
    pub fn signed(self, checkpoint: SignedNote) -> Self {
        Self { checkpoint: Some(checkpoint), ..self }
    }
    pub fn witnessed(self, witnessed: Option<Witnessed>) -> Self {
        Self { witnessed, ..self }
    }
}

/// A selection has another first key than a whole export, so that none is taken for the other.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    errand_journal_export: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errand_journal_selection: Option<u64>,
    store_id: String,
    size: u64,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pruned: Option<PrunedLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    witnessed: Option<WitnessedLine>,
}

/// How many records are no longer kept, and the roots of the perfect subtrees over them, largest first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrunedLine {
    before: u64,
    peaks: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessedLine {
    checkpoint: String,
    consistency: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    position: u64,
    leaf: String,
    body: String,
    #[serde(default)]
    private: Vec<PrivateLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivateLine {
    field: String,
    salt: String,
    value: String,
}

fn line_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("invariant: strings and numbers always serialise")
}

fn hexes(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

/// The first line, without a line end.
pub fn export_header(header: &ExportHeader) -> String {
    let ExportHeader { store_id, root, selection, pruned, checkpoint, witnessed } = header;
    let pruned = (!selection && pruned.size() > 0)
        .then(|| PrunedLine { before: pruned.size(), peaks: pruned.peaks().chunks(32).map(hex::encode).collect() });
    let format = if pruned.is_some() { FORMAT } else { OF_ALL };
    line_of(&HeaderLine {
        errand_journal_export: (!selection).then_some(format),
        errand_journal_selection: selection.then_some(format),
        store_id: store_id.clone(),
        size: root.size,
        root: hex::encode(root.root),
        pruned,
        note: selection.then(|| SELECTION.into()),
        checkpoint: checkpoint.as_ref().map(SignedNote::to_string),
        witnessed: witnessed
            .as_ref()
            .map(|w| WitnessedLine { checkpoint: w.checkpoint.to_string(), consistency: hexes(&w.consistency) }),
    })
}

/// One record's line, without a line end: hashes in hex, body and salts in base64. `path`: a selection's, from the leaf
/// to the root.
pub fn export_line(record: &StoredRecord, path: Option<&[Hash]>) -> String {
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
        path: path.map(hexes),
    })
}

fn hash(text: &str) -> Result<Hash, String> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).map_err(|_| "a hash is 64 hexadecimal digits".to_string())?;
    Ok(out)
}

fn hashes(texts: &[String]) -> Result<Vec<Hash>, String> {
    texts.iter().map(|text| hash(text)).collect()
}

/// Reads [`export_line`] back, with its path when it has one; the error says what is wrong with the line.
pub fn parse_line(line: &str) -> Result<(StoredRecord, Option<Vec<Hash>>), String> {
    let line: Line = serde_json::from_str(line).map_err(|e| format!("its line cannot be read: {e}"))?;
    let base64 = |text: &str| STANDARD.decode(text).map_err(|_| "its line holds bytes that are not base64".to_string());
    let private = line.private.into_iter().map(|p| Ok((p.field, base64(&p.salt)?, p.value)));
    let record = StoredRecord {
        position: Position(line.position),
        leaf: hash(&line.leaf)?,
        body: base64(&line.body)?,
        private: private.collect::<Result<_, String>>()?,
    };
    Ok((record, line.path.as_deref().map(hashes).transpose()?))
}

fn tree_in_front(line: &PrunedLine) -> Result<Frontier, ExportError> {
    let peaks = hashes(&line.peaks).map_err(ExportError::Header)?.concat();
    let tree = Frontier::restore(line.before, &peaks).filter(|tree| tree.size() > 0);
    tree.ok_or_else(|| ExportError::Header("names roots that are not those of so many records".into()))
}

fn parse_header(line: &str) -> Result<ExportHeader, ExportError> {
    let line: HeaderLine =
        serde_json::from_str(line).map_err(|e| ExportError::Header(format!("cannot be read: {e}")))?;
    let selection = match (line.errand_journal_export, line.errand_journal_selection) {
        (Some(OF_ALL), None) if line.pruned.is_none() => false,
        (Some(FORMAT), None) if line.pruned.is_some() => false,
        (None, Some(OF_ALL)) if line.pruned.is_none() => true,
        (Some(OF_ALL | FORMAT), None) | (None, Some(OF_ALL)) => {
            return Err(ExportError::Header("says one format and has another".into()));
        }
        (Some(other), None) | (None, Some(other)) => return Err(ExportError::Format(other)),
        _ => return Err(ExportError::Header("does not say what it is".into())),
    };
    let note = |text: &String| text.parse::<SignedNote>().map_err(ExportError::Checkpoint);
    let witnessed = |line: &WitnessedLine| {
        let consistency = hashes(&line.consistency).map_err(ExportError::Header)?;
        Ok(Witnessed { checkpoint: note(&line.checkpoint)?, consistency })
    };
    let pruned = line.pruned.as_ref().map(tree_in_front).transpose()?.unwrap_or_default();
    if pruned.size() > line.size {
        return Err(ExportError::Header("says that more records are gone than there were".into()));
    }
    Ok(ExportHeader {
        store_id: line.store_id,
        root: TreeRoot { size: line.size, root: hash(&line.root).map_err(ExportError::Header)? },
        selection,
        pruned,
        checkpoint: line.checkpoint.as_ref().map(note).transpose()?,
        witnessed: line.witnessed.as_ref().map(witnessed).transpose()?,
    })
}
