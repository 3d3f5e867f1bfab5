//! Erasing what the law asks to have erased: which values of a record can go, and what the journal says of it.
//!
//! Pure. Decides the vocabulary of a redaction; that every leaf stays true is `canonical`'s work, and the copies of a
//! value in other rows are the service's.

use proto_types::{Position, Record, Timestamp};
use serde_json::json;

/// A value that stands beside a record's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PrivateField {
    User,
    Intent,
}

impl PrivateField {
    pub const ALL: [Self; 2] = [Self::User, Self::Intent];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Intent => "intent",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str() == text)
    }
}

/// One value, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrivateValue {
    pub position: Position,
    pub field: PrivateField,
}

/// The record of a redaction: the places, and never what stood there. The reason is a person's words, and may be
/// erased in its turn.
pub fn redaction(values: &[PrivateValue], reason: &str, operator: Option<String>, now: Timestamp) -> Record {
    let places = |field| values.iter().filter(|v| v.field == field).map(|v| v.position.0).collect::<Vec<_>>();
    let detail = json!({ "intent": places(PrivateField::Intent), "user": places(PrivateField::User) });
    Record::new(now, "journal.redacted").intent(reason).operator(operator).detail(json!({ "positions": detail }))
}

/// The places that a record of a redaction names; empty for every other record.
pub fn redacted(record: &Record) -> Vec<PrivateValue> {
    if record.kind != "journal.redacted" {
        return Vec::new();
    }
    let of = |field: PrivateField| {
        let places = record.detail.get("positions").and_then(|p| p.get(field.as_str())).and_then(|p| p.as_array());
        let places = places.into_iter().flatten().filter_map(serde_json::Value::as_u64);
        places.map(move |p| PrivateValue { position: Position(p), field })
    };
    PrivateField::ALL.into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_redaction_names_places_and_no_values() {
        let value = |position, field| PrivateValue { position: Position(position), field };
        let values = [value(3, PrivateField::User), value(3, PrivateField::Intent), value(9, PrivateField::User)];
        let record = redaction(&values, "a request under the law", Some("kim".into()), Timestamp::from_secs(1));
        let mut told = redacted(&record);
        told.sort();
        let mut sorted = values;
        sorted.sort();
        assert_eq!(told, sorted);
        assert!(!record.detail.to_string().contains("law"), "the reason is free text");
        let other = Record { kind: "task.ended".into(), ..record };
        assert_eq!(redacted(&other), []);
    }

    #[test]
    fn fields_are_read_as_they_are_written() {
        for field in PrivateField::ALL {
            assert_eq!(PrivateField::parse(field.as_str()), Some(field));
        }
        assert_eq!(PrivateField::parse("User"), None);
    }
}
