//! Records in the words of others: OCSF events and CEF lines, and the plain form that people and sinks read.
//!
//! Decides how a record reads outside the house. Nothing here is evidence: what is hashed is the stored body, and each
//! form carries the position and the leaf, by which it is compared with the journal or an export of it. A private value
//! that was redacted is absent.

mod cef;
mod classes;
mod ocsf;

use proto_tlog::Hash;
use proto_types::{Position, Record};
use serde_json::{Map, Value, json};

/// What a record is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The record as `errand journal tail --output json` prints it, and its leaf.
    Json,
    /// An event of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// A line of the Common Event Format, version 0.
    Cef,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Json, Self::Ocsf, Self::Cef];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
        }
    }
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }
    /// One record, one line, without its end; never a line break inside.
    pub fn line(self, seen: &Seen<'_>) -> String {
        match self {
            Self::Json => json_line(seen),
            Self::Ocsf => ocsf::event(seen).to_string(),
            Self::Cef => cef::line(seen),
        }
    }
}

/// A record where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub store_id: &'a str,
    pub position: Position,
    pub leaf: &'a Hash,
    pub record: &'a Record,
}

/// A record with its position, every field of the shape present: what scripts rely on.
pub fn plain(position: Position, record: &Record) -> Value {
    let mut out = Map::new();
    out.insert("position".into(), json!(position));
    for field in [
        "workload",
        "user",
        "task_id",
        "target",
        "role",
        "intent",
        "tool",
        "decision",
        "approval",
        "credential",
        "node",
        "operator",
    ] {
        out.insert(field.into(), Value::Null);
    }
    if let Ok(Value::Object(fields)) = serde_json::to_value(record) {
        out.extend(fields);
    }
    Value::Object(out)
}

fn json_line(seen: &Seen<'_>) -> String {
    let mut value = plain(seen.position, seen.record);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("leaf".into(), hex::encode(seen.leaf).into());
        fields.insert("store_id".into(), seen.store_id.into());
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{KINDS, canonical::tests::full};

    const LEAF: Hash = [0xab; 32];

    fn seen(record: &Record) -> Seen<'_> {
        Seen { store_id: "k3m9x2p7", position: Position(1207), leaf: &LEAF, record }
    }

    /// A record of this kind that names what records of it name.
    fn sample(kind: &'static str) -> Record {
        let mut record = full();
        record.kind = kind.into();
        record.detail = json!({ "deleted": "orders", "name": "errand_abcde_x" });
        record
    }

    /// The same JSON with its keys in order, whichever order the build's maps keep.
    fn in_order(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut fields: Vec<_> = map.into_iter().map(|(key, value)| (key, in_order(value))).collect();
                fields.sort_by(|(a, _), (b, _)| a.cmp(b));
                Value::Object(fields.into_iter().collect())
            }
            Value::Array(items) => items.into_iter().map(in_order).collect(),
            other => other,
        }
    }

    /// Each kind in each format, one paragraph a kind; the same for every release.
    fn page() -> String {
        let version = env!("CARGO_PKG_VERSION");
        let mut page = String::new();
        for (kind, _) in KINDS {
            let record = sample(kind);
            page += &format!("{kind}\n");
            for format in [Format::Ocsf, Format::Cef] {
                let line = format.line(&seen(&record));
                let line = serde_json::from_str(&line).map_or(line, |event| in_order(event).to_string());
                page += &line
                    .replace(&format!("|{version}|"), "|VERSION|")
                    .replace(&format!("\"{version}\""), "\"VERSION\"");
                page.push('\n');
            }
            page.push('\n');
        }
        page
    }

    #[test]
    fn every_kind_reads_in_every_format_as_it_always_did() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journal_formats.txt");
        if std::env::var_os("ERRAND_BLESS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        for (is, was) in page().lines().zip(golden.lines()) {
            assert_eq!(is, was, "a format changed; ERRAND_BLESS=1 writes {} anew", path.display());
        }
        assert_eq!(page().lines().count(), golden.lines().count(), "kinds came or went; ERRAND_BLESS=1 writes it anew");
    }

    #[test]
    fn a_line_never_breaks_whatever_people_write() {
        let mut record = full().intent("one\r\ntwo\u{2028}|three=\\four\u{7}");
        record.outcome = "bad\noutcome".into();
        record.kind = "no.such\nkind".into();
        for format in Format::ALL {
            let line = format.line(&seen(&record));
            assert!(!line.contains(['\n', '\r']), "{}: {line}", format.name());
        }
    }

    #[test]
    fn a_format_is_found_by_its_name_and_by_no_other() {
        for format in Format::ALL {
            assert_eq!(Format::named(format.name()), Some(format));
        }
        assert_eq!(Format::named("OCSF"), None);
    }
}
