//! JSON as this house reads it from strangers: one object, no member twice, bounded depth and size.
//!
//! RFC 8259 leaves duplicate members to the parser; two parsers that differ about the same signed bytes are how a token
//! means one thing to its verifier and another to its user.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::{cell::Cell, fmt};

/// Deepest nesting, counting the object itself.
const MAX_DEPTH: u8 = 16;
/// Most members and elements in all.
const MAX_NODES: u32 = 4096;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("not a JSON object of at most 16 levels without repeated members (line {line}, column {column})")]
    Malformed { line: usize, column: usize },
}

/// Parses one JSON object, refusing repeated members at any level, more than 16 levels or 4096 values, and anything
/// after the object. The caller bounds the bytes.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    parse_object_of(bytes, MAX_NODES)
}

/// The same with another bound on the number of values.
pub(crate) fn parse_object_of(bytes: &[u8], max_nodes: u32) -> Result<Map<String, Value>, JsonError> {
    let fail = |e: serde_json::Error| JsonError::Malformed { line: e.line(), column: e.column() };
    let left = Cell::new(max_nodes);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: MAX_DEPTH, left: &left }.deserialize(&mut reader).map_err(fail)?;
    reader.end().map_err(fail)?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(JsonError::Malformed { line: 1, column: 1 }),
    }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: u8,
    left: &'a Cell<u32>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth, ..self })
    }
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| E::custom("too many values"))?;
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        self.count()?;
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strict JSON")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut out = Vec::new();
        while let Some(v) = seq.next_element_seed(inner)? {
            out.push(v);
        }
        Ok(Value::Array(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                return Err(A::Error::custom("member twice"));
            }
            let value = map.next_value_seed(inner)?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_parsers_could_read_differently_is_refused_and_its_neighbour_is_read() {
        let deep = |n: usize| format!("{}{}", "{\"a\":".repeat(n) + "1", "}".repeat(n));
        let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(5000));
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":{"a":1,"a":1}}"#,
            r#"{"a":1} {}"#,
            r#"[1]"#,
            r#""a""#,
            r#"{"a":1e400}"#,
            r#"{'a':1}"#,
            "{\"a\":\"\u{1}\"}",
            "",
            &deep(17),
            &deep(10_000),
            &wide,
        ] {
            assert!(parse_object(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(40)]);
        }
        assert!(parse_object(&[b'{', b'"', 0xff, b'"', b':', b'1', b'}']).is_err());
        for good in [r#"{"a":1,"b":2}"#, r#"{"x":{"a":1},"y":{"a":1}}"#, " {} ", &deep(16)] {
            parse_object(good.as_bytes()).unwrap();
        }
    }
}
