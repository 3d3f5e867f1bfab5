//! JSON that means one thing (RFC 7493): bounded in depth, no object with a member twice, no number that a reader
//! with binary64 would change.
//!
//! Ordinary parsers keep the last of two members; whoever checked the first was then walked around.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads one value with at most `depth` nested arrays and objects.
pub(super) fn parse(text: &str, depth: usize) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// 2^53 - 1 (RFC 7493 section 2.2).
const MAX_SAFE: u64 = 9_007_199_254_740_991;

fn out_of_range<E: Error>() -> E {
    E::custom("number out of range")
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: Error>(&self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        if v.unsigned_abs() <= MAX_SAFE { Ok(Value::Number(v.into())) } else { Err(out_of_range()) }
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        if v <= MAX_SAFE { Ok(Value::Number(v.into())) } else { Err(out_of_range()) }
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(out_of_range)
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_string()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        let depth = self.inner::<A::Error>()?.depth;
        while let Some(value) = seq.next_element_seed(Self { depth })? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        let depth = self.inner::<A::Error>()?.depth;
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Self { depth })?;
            if out.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is given twice"));
            }
        }
        Ok(Value::Object(out))
    }
}
