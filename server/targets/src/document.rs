//! `[[target]]` documents: TOML in, [`TargetDoc`]s out, with everything that is wrong said at once.
//!
//! Decides what every document needs whatever its kind (a name, a kind, no secret written inline). What else a kind
//! allows is decided by the kind when it is built.

use proto_types::{TargetDoc, id::excerpt, target::is_name};
use serde_json::{Map, Value};
use server_core::ports::TargetProblem;
use std::collections::BTreeSet;

/// Largest document accepted, bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Most targets in one document.
const MAX_TARGETS: usize = 1000;

/// Keys that would hold a secret, and where it belongs instead.
const INLINE_SECRETS: [(&str, &str); 9] = [
    ("password", "password_file"),
    ("passwd", "password_file"),
    ("pass", "password_file"),
    ("secret", "secret_file"),
    ("client_secret", "client_secret_file"),
    ("token", "token_file"),
    ("api_key", "api_key_file"),
    ("private_key", "private_key_file"),
    ("secret_access_key", "secret_access_key_file"),
];

/// Reads a file that holds `[[target]]` tables and nothing else. `origin` is `config`, `applied` or `directory`.
pub fn parse_toml(text: &str, origin: &str) -> Result<Vec<TargetDoc>, Vec<TargetProblem>> {
    if text.len() > MAX_BYTES {
        return Err(vec![problem("", format!("the document has {} bytes; at most {MAX_BYTES} are read", text.len()))]);
    }
    // The parser's own Display would echo the line, and with it a secret that should not be there.
    let mut top: Map<String, Value> = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        vec![problem("", format!("line {line}: {}", excerpt(e.message())))]
    })?;
    let targets = top.remove("target").unwrap_or_else(|| Value::Array(Vec::new()));
    let mut problems: Vec<_> = top
        .keys()
        .map(|k| problem("", format!("unknown key `{}`; this file holds [[target]] tables", excerpt(k))))
        .collect();
    match documents(targets, origin) {
        Ok(docs) if problems.is_empty() => Ok(docs),
        Ok(_) => Err(problems),
        Err(mut more) => {
            problems.append(&mut more);
            Err(problems)
        }
    }
}

/// The same from the `target` array of a larger configuration file.
pub fn documents(targets: Value, origin: &str) -> Result<Vec<TargetDoc>, Vec<TargetProblem>> {
    let Value::Array(tables) = targets else {
        return Err(vec![problem("", "`target` is not an array of tables: write [[target]]".into())]);
    };
    if tables.len() > MAX_TARGETS {
        return Err(vec![problem("", format!("{} targets; at most {MAX_TARGETS} are read", tables.len()))]);
    }
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    let mut docs = Vec::with_capacity(tables.len());
    for (at, table) in tables.into_iter().enumerate() {
        if let Some(doc) = document(at, table, origin, &mut problems) {
            if !names.insert(doc.name.clone()) {
                problems.push(problem(&doc.name, "is declared twice".into()));
            }
            docs.push(doc);
        }
    }
    if problems.is_empty() { Ok(docs) } else { Err(problems) }
}

fn document(at: usize, table: Value, origin: &str, problems: &mut Vec<TargetProblem>) -> Option<TargetDoc> {
    let numbered = format!("#{}", at + 1);
    let Value::Object(map) = &table else {
        problems.push(problem(&numbered, "is not a table".into()));
        return None;
    };
    let name = match map.get("name").and_then(Value::as_str) {
        Some(name) if is_name(name) => Some(name.to_string()),
        Some(bad) => {
            let hint = "use 1 to 63 of a-z, 0-9, `_` and `-`, starting with a letter or digit";
            problems.push(problem(&numbered, format!("name `{}` is not allowed: {hint}", excerpt(bad))));
            None
        }
        None => {
            problems.push(problem(&numbered, "has no name".into()));
            None
        }
    };
    let label = name.clone().unwrap_or(numbered);
    let kind = map.get("kind").and_then(Value::as_str).map(str::to_string);
    if kind.is_none() {
        problems.push(problem(&label, "has no kind, such as kind = \"postgres\"".into()));
    }
    inline_secrets(&label, map, problems);
    Some(TargetDoc { name: name?, kind: kind?, body: table, origin: origin.into(), revision: 1, retired: false })
}

/// Says where a secret belongs, for each key that looks like one, at any depth.
pub(crate) fn inline_secrets(target: &str, map: &Map<String, Value>, problems: &mut Vec<TargetProblem>) {
    for (key, value) in map {
        if let Some((_, instead)) = INLINE_SECRETS.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)) {
            problems.push(problem(
                target,
                format!("`{key}` is never written inline: put it in a file and name that with {instead}"),
            ));
        }
        let tables: &[Value] = match value {
            Value::Array(items) => items,
            other => std::slice::from_ref(other),
        };
        tables.iter().filter_map(Value::as_object).for_each(|t| inline_secrets(target, t, problems));
    }
}

/// Whether `inline_secrets` has already spoken of this key.
pub(crate) fn is_inline_secret(key: &str) -> bool {
    INLINE_SECRETS.iter().any(|(k, _)| k.eq_ignore_ascii_case(key))
}

fn problem(target: &str, problem: String) -> TargetProblem {
    TargetProblem { target: target.to_string(), problem }
}
