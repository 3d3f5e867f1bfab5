//! A file of entries: an array, entries one after another, or SPIRE's `{"entries": […]}`.
//!
//! Decides how a document becomes entries. Every problem is told with the entry's number; nothing is sent when one
//! is wrong.

use crate::{
    error::{CliError, Result, read_text},
    verbs::args,
};
use proto_types::{Selector, Timestamp};
use proto_wire::{
    convert::{selector_out, spiffe_id_out},
    spire::api::types::{Entry, entry::AdditionalAttributes},
};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// Room for 100 000 entries.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// One entry as people write it. Members that only a server sets are read and not used, so that what `show` prints
/// can be given back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryData {
    #[serde(default, alias = "entry_id")]
    id: Option<String>,
    spiffe_id: IdData,
    #[serde(default)]
    parent_id: Option<IdData>,
    selectors: Vec<SelectorData>,
    #[serde(default)]
    x509_svid_ttl: Option<TtlData>,
    #[serde(default)]
    jwt_svid_ttl: Option<TtlData>,
    #[serde(default)]
    federates_with: Option<Vec<String>>,
    #[serde(default)]
    dns_names: Option<Vec<String>>,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    downstream: bool,
    #[serde(default)]
    store_svid: bool,
    #[serde(default)]
    expires_at: Option<TimeData>,
    #[serde(default)]
    disable_x509_svid_prefetch: bool,
    #[serde(default)]
    jwt_svid_include_jti: bool,
    /// The same two, as SPIRE's document has them.
    #[serde(default)]
    additional_attributes: AttributesData,
    #[serde(default, rename = "revision_number")]
    _revision_number: Option<Value>,
    #[serde(default, rename = "created_at")]
    _created_at: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AttributesData {
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum IdData {
    Text(String),
    Parts { trust_domain: String, path: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SelectorData {
    Text(String),
    Parts {
        #[serde(rename = "type")]
        kind: String,
        value: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TtlData {
    Seconds(i32),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TimeData {
    Seconds(i64),
    Text(String),
}

pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = read_text(path, MAX_FILE)?;
    parse(&text).map_err(|why| {
        CliError::config(why).at(path.display()).hint("see FILE in `errand entry create --help`; nothing was sent")
    })
}

fn parse(text: &str) -> std::result::Result<Vec<Entry>, String> {
    let mut values = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match document.map_err(|e| format!("this is not JSON: {e}"))? {
            Value::Array(list) => values.extend(list),
            Value::Object(mut object) if object.len() == 1 && object.contains_key("entries") => {
                match object.remove("entries") {
                    Some(Value::Array(list)) => values.extend(list),
                    _ => return Err("`entries` is not a list".into()),
                }
            }
            other => values.push(other),
        }
    }
    if values.is_empty() {
        return Err("there is no entry in it".into());
    }
    let number = |(n, value)| entry(value).map_err(|why| format!("entry {}: {why}", n + 1));
    values.into_iter().enumerate().map(number).collect()
}

fn entry(value: Value) -> std::result::Result<Entry, String> {
    let data: EntryData = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let selectors = data.selectors.into_iter().map(|s| match s {
        SelectorData::Text(text) => args::selector(&text),
        SelectorData::Parts { kind, value } => Selector::new(kind, value).map_err(|e| e.to_string()),
    });
    let selectors: Vec<_> = selectors.collect::<std::result::Result<_, _>>()?;
    if selectors.is_empty() {
        return Err("it needs at least one selector".into());
    }
    let attributes = AdditionalAttributes {
        disable_x509_svid_prefetch: data.disable_x509_svid_prefetch
            || data.additional_attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: data.jwt_svid_include_jti || data.additional_attributes.jwt_svid_include_jti,
    };
    Ok(Entry {
        additional_attributes: (attributes != AdditionalAttributes::default()).then_some(attributes),
        id: data.id.unwrap_or_default(),
        spiffe_id: Some(id(data.spiffe_id)?),
        parent_id: data.parent_id.map(id).transpose()?,
        selectors: selectors.iter().map(selector_out).collect(),
        x509_svid_ttl: ttl(data.x509_svid_ttl)?,
        jwt_svid_ttl: ttl(data.jwt_svid_ttl)?,
        federates_with: data.federates_with.unwrap_or_default(),
        dns_names: data.dns_names.unwrap_or_default(),
        hint: data.hint.unwrap_or_default(),
        admin: data.admin,
        downstream: data.downstream,
        store_svid: data.store_svid,
        expires_at: match data.expires_at {
            None => 0,
            Some(TimeData::Seconds(s)) => s,
            Some(TimeData::Text(text)) => {
                let time: Timestamp = text.parse().map_err(|_| "`expires_at` is not an RFC 3339 time".to_string())?;
                time.as_secs()
            }
        },
        ..Default::default()
    })
}

fn id(data: IdData) -> std::result::Result<proto_wire::spire::api::types::Spiffeid, String> {
    let text = match data {
        IdData::Text(text) => text,
        IdData::Parts { trust_domain, path } => format!("spiffe://{trust_domain}{path}"),
    };
    args::spiffe_id(&text).map(|id| spiffe_id_out(&id))
}

fn ttl(data: Option<TtlData>) -> std::result::Result<i32, String> {
    match data {
        None => Ok(0),
        Some(TtlData::Seconds(s)) if s >= 0 => Ok(s),
        Some(TtlData::Seconds(_)) => Err("a TTL is not negative".into()),
        Some(TtlData::Text(text)) => args::duration(&text).map(args::seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"spiffe_id": "spiffe://example.org/a", "selectors": ["unix:uid:1"]}"#;

    #[test]
    fn an_array_a_sequence_and_spires_document_say_the_same() {
        let spire = r#"{"entries": [{"spiffe_id": {"trust_domain": "example.org", "path": "/a"},
            "selectors": [{"type": "unix", "value": "uid:1"}],
            "additional_attributes": {"jwt_svid_include_jti": true}}]}"#;
        let (array, sequence) = (format!("[{ONE},{ONE}]"), format!("{ONE}\n{ONE}"));
        assert_eq!(parse(&array).unwrap(), parse(&sequence).unwrap());
        let ours = ONE.replace('}', r#", "jwt_svid_include_jti": true}"#);
        assert_eq!(parse(spire).unwrap()[0], parse(&ours).unwrap()[0]);
        assert_ne!(parse(spire).unwrap()[0], parse(ONE).unwrap()[0]);
    }

    #[test]
    fn what_show_prints_can_be_given_back() {
        let mut entry = parse(ONE).unwrap().remove(0);
        entry.parent_id = entry.spiffe_id.clone();
        (entry.x509_svid_ttl, entry.expires_at) = (5400, 1_795_000_000);
        let printed = crate::verbs::view::entry(&entry).to_string();
        assert_eq!(parse(&printed).unwrap(), [entry]);
    }

    #[test]
    fn a_wrong_entry_is_named_by_its_number() {
        for (bad, why) in [
            (r#"{"spiffe_id": "http://x", "selectors": ["unix:uid:1"]}"#, "entry 2: `http://x` is not a SPIFFE ID"),
            (r#"{"spiffe_id": "spiffe://example.org/a", "selectors": []}"#, "entry 2: it needs at least one selector"),
            (r#"{"spiffe_id": "spiffe://example.org/a", "selectors": ["x:y"], "ttl": 5}"#, "entry 2: unknown field"),
        ] {
            let said = parse(&format!("[{ONE},{bad}]")).unwrap_err();
            assert!(said.starts_with(why), "{said}");
        }
        assert!(parse("[]").is_err() && parse("").is_err());
    }
}
