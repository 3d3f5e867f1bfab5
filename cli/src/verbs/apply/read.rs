//! Files of a directory: which are read, and what each holds. Every file is read before anything is asked of a server.

use crate::{
    error::{CliError, Result, read_text},
    verbs::entry,
};
use proto_wire::spire::api::types::Entry;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::Table;

const MAX_FILE: u64 = 16 * 1024 * 1024;
const MAX_FILES: usize = 10_000;
/// What the ids of entries begin with that `errand apply` made.
const PREFIX: &str = "apply.";

/// Everything that the files say.
#[derive(Debug, Default)]
pub struct Files {
    /// TOML with `[[target]]` tables, of all files together.
    pub targets: String,
    /// Cedar text by name.
    pub policies: BTreeMap<String, String>,
    pub entries: Vec<Entry>,
}

pub fn read(path: &Path) -> Result<Files> {
    let mut files = Files::default();
    let mut targets = Vec::new();
    for file in list(path)? {
        let text = read_text(&file, MAX_FILE)?;
        match file.extension().and_then(|e| e.to_str()) {
            Some("cedar") => files.policy(&file, text)?,
            _ => files.tables(&text, &mut targets).map_err(|why| CliError::config(why).at(file.display()))?,
        }
    }
    if !targets.is_empty() {
        let all = Table::from_iter([("target".to_string(), toml::Value::Array(targets))]);
        files.targets = toml::to_string(&all).map_err(|e| CliError::failed(e.to_string()))?;
    }
    Ok(files)
}

/// The files that count, by name: a directory's own, not those below it.
fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let fail = |e: std::io::Error| CliError::failed(format!("cannot read it: {e}")).at(path.display());
    if std::fs::metadata(path).map_err(fail)?.is_file() {
        return Ok(vec![path.into()]);
    }
    let mut found = Vec::new();
    for file in std::fs::read_dir(path).map_err(fail)? {
        let file = file.map_err(fail)?.path();
        let hidden = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && matches!(file.extension().and_then(|e| e.to_str()), Some("toml" | "cedar")) {
            found.push(file);
        }
    }
    if found.is_empty() {
        // With --prune an empty directory, or the wrong one, would delete everything.
        return Err(CliError::config("there is no *.toml and no *.cedar in it").at(path.display()));
    }
    if found.len() > MAX_FILES {
        return Err(CliError::config(format!("it has more than {MAX_FILES} files")).at(path.display()));
    }
    found.sort();
    Ok(found)
}

impl Files {
    fn policy(&mut self, file: &Path, text: String) -> Result<()> {
        let name = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if !proto_types::target::is_name(&name) {
            let why = "its name is not a policy set's: use a-z, 0-9, `-` and `_`, at most 63";
            return Err(CliError::config(why).at(file.display()));
        }
        self.policies.insert(name, text);
        Ok(())
    }

    fn tables(&mut self, text: &str, targets: &mut Vec<toml::Value>) -> std::result::Result<(), String> {
        // The parser's own words would repeat the line, and with it a secret that should not be there.
        let mut top: Table = toml::from_str(text).map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: {}", proto_types::id::excerpt(e.message()))
        })?;
        for (key, into) in [("target", true), ("entry", false)] {
            let list = match top.remove(key) {
                None => continue,
                Some(toml::Value::Array(list)) => list,
                Some(_) => return Err(format!("`{key}` is not an array of tables: write [[{key}]]")),
            };
            if into {
                targets.extend(list);
            } else {
                for (n, table) in list.into_iter().enumerate() {
                    self.entries.push(entry_of(table).map_err(|why| format!("entry {}: {why}", n + 1))?);
                }
            }
        }
        match top.keys().next() {
            None => Ok(()),
            Some(other) => {
                let other = proto_types::id::excerpt(other);
                Err(format!("unknown key `{other}`; a file holds [[target]] and [[entry]] tables"))
            }
        }
    }
}

/// An `[[entry]]` table: the fields of `entry create --data`, and a name of its own instead of an id.
fn entry_of(table: toml::Value) -> std::result::Result<Entry, String> {
    let mut value = serde_json::to_value(table).map_err(|e| e.to_string())?;
    let fields = value.as_object_mut().ok_or("it is not a table")?;
    let name = match fields.remove("name") {
        Some(Value::String(name)) if proto_types::target::is_name(&name) => name,
        _ => return Err("it needs a `name` of a-z, 0-9, `-` and `_`, at most 63: its id will be apply.NAME".into()),
    };
    if fields.contains_key("id") || fields.contains_key("entry_id") {
        return Err(format!("entry `{name}` has an id; the id of an applied entry is {PREFIX}NAME"));
    }
    let mut entry = entry::parse(value).map_err(|why| format!("`{name}`: {why}"))?;
    entry.id = format!("{PREFIX}{name}");
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[target]]\nname = 'orders-db'\nkind = 'postgres'\n[[entry]]\nname = 'reports'\n\
        spiffe_id = 'spiffe://example.org/reports'\nselectors = ['unix:uid:1']\nx509_svid_ttl = '30m'\n";

    fn parse(text: &str) -> std::result::Result<(Files, usize), String> {
        let (mut files, mut targets) = (Files::default(), Vec::new());
        files.tables(text, &mut targets)?;
        Ok((files, targets.len()))
    }

    #[test]
    fn a_file_holds_targets_and_entries_and_what_is_nearly_right_is_named() {
        let (files, targets) = parse(GOOD).unwrap();
        assert_eq!((targets, files.entries[0].id.as_str(), files.entries[0].x509_svid_ttl), (1, "apply.reports", 1800));
        for (from, to, why) in [
            ("[[target]]", "[[targets]]", "unknown key `targets`"),
            ("[[entry]]", "[entry]", "write [[entry]]"),
            ("name = 'reports'", "name = 'Reports'", "entry 1: it needs a `name`"),
            ("name = 'reports'", "name = 'reports'\nid = 'x'", "has an id"),
            ("'unix:uid:1'", "'unix'", "entry 1: `reports`: `unix` is not a selector"),
            ("x509_svid_ttl", "x509_ttl", "unknown field"),
        ] {
            let said = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(said.contains(why), "{to}: {said}");
        }
    }

    #[test]
    fn a_directory_without_a_file_that_counts_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("README.md"), "x").unwrap();
        std::fs::write(dir.path().join(".hidden.toml"), GOOD).unwrap();
        assert!(read(dir.path()).is_err());
        std::fs::write(dir.path().join("house.toml"), GOOD).unwrap();
        std::fs::write(dir.path().join("orders.cedar"), "permit (principal, action, resource);").unwrap();
        let files = read(dir.path()).unwrap();
        assert_eq!((files.policies.len(), files.entries.len()), (1, 1));
        assert!(files.targets.contains("[[target]]"), "{}", files.targets);
    }
}
