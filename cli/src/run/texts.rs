//! Texts of the server with names in them: `${DIR}` and `${ERRAND}` in every text of a placement or a mask, and
//! `${field}`, one of the credential's own fields, in a document that is served. Pure.

use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};

/// How the private directory is spelled.
pub const DIR: &str = "${DIR}";
/// How the path of this program is spelled.
pub const ERRAND: &str = "${ERRAND}";

/// What the two names stand for.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub dir: &'a Path,
    pub errand: &'a Path,
}

/// A document names what the credential has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField(pub String);

impl Names<'_> {
    /// `text` with both names replaced; whatever else looks like one stays.
    pub fn fill(&self, text: &str) -> String {
        text.replace(DIR, &self.dir.to_string_lossy()).replace(ERRAND, &self.errand.to_string_lossy())
    }

    /// `document` with every name in its texts replaced. A text that is put in is never looked at again.
    pub fn document(&self, document: &Value, fields: &BTreeMap<String, Value>) -> Result<Value, UnknownField> {
        Ok(match document {
            Value::String(text) => Value::String(self.with_fields(text, fields)?),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.document(item, fields)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let filled = members.iter().map(|(name, value)| Ok((name.clone(), self.document(value, fields)?)));
                Value::Object(filled.collect::<Result<Map<_, _>, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn with_fields(&self, text: &str, fields: &BTreeMap<String, Value>) -> Result<String, UnknownField> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, (name, after))) =
            rest.split_once("${").and_then(|(before, from)| Some((before, from.split_once('}')?)))
        {
            filled.push_str(before);
            match (name, fields.get(name)) {
                ("DIR", _) => filled.push_str(&self.dir.to_string_lossy()),
                ("ERRAND", _) => filled.push_str(&self.errand.to_string_lossy()),
                (_, Some(Value::String(value))) => filled.push_str(value),
                (_, Some(value @ (Value::Number(_) | Value::Bool(_)))) => filled.push_str(&value.to_string()),
                _ => return Err(UnknownField(proto_types::id::excerpt(name))),
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names<T>(with: impl FnOnce(Names<'_>) -> T) -> T {
        with(Names { dir: Path::new("/shm/errand-1"), errand: Path::new("/opt/errand") })
    }

    #[test]
    fn both_names_are_replaced_and_nothing_else() {
        let filled = names(|n| n.fill("a ${DIR}/x ${ERRAND} ${HOME} $DIR ${dir}"));
        assert_eq!(filled, "a /shm/errand-1/x /opt/errand ${HOME} $DIR ${dir}");
    }

    #[test]
    fn a_document_takes_fields_once_and_refuses_one_that_is_not_there() {
        let fields = BTreeMap::from([
            ("key".to_string(), json!("${secret}\"")),
            ("secret".to_string(), json!("s")),
            ("port".to_string(), json!(22)),
            ("list".to_string(), json!([1])),
        ]);
        let document =
            json!({ "A": "${key}", "B": ["x ${secret}:${port} y", 1, null], "C": { "${key}": "${DIR}/${" } });
        let filled = names(|n| n.document(&document, &fields)).unwrap();
        let expected = json!({ "A": "${secret}\"", "B": ["x s:22 y", 1, null], "C": { "${key}": "/shm/errand-1/${" } });
        assert_eq!(filled, expected);
        for (bad, name) in [("${none}", "none"), ("${list}", "list"), ("${}", "")] {
            assert_eq!(names(|n| n.document(&json!([bad]), &fields)), Err(UnknownField(name.into())), "{bad}");
        }
    }
}
