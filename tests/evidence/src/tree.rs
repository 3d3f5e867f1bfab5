//! What is in the tree: the names of its functions in Rust sources, and the numbers of the cases in its tables.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where sources lie, from the root.
const ROOMS: [&str; 8] = ["agent", "bench", "cli", "fuzz", "proto", "server", "testkit", "tests"];

/// Every file below `dir` with one of these endings, but for what a build makes.
fn files(dir: &Path, endings: &[&str], found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, kind) = entry.and_then(|e| Ok((e.path(), e.file_type()?)))?;
        if kind.is_dir() && !path.ends_with("target") {
            files(&path, endings, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| endings.iter().any(|wanted| e == *wanted)) {
            found.push(path);
        }
    }
    Ok(())
}

fn texts(root: &Path, endings: &[&str]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for room in ROOMS {
        files(&root.join(room), endings, &mut found).map_err(|e| format!("{room}: {e}"))?;
    }
    found.iter().map(|path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))).collect()
}

/// The names behind `fn` at the beginning of a line, in every source: of tests and of everything else.
pub fn functions(root: &Path) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for text in texts(root, &["rs"])? {
        names.extend(text.lines().filter_map(function).map(String::from));
    }
    Ok(names)
}

/// The name of the function that a line begins. A test is neither `pub` nor `const`.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line);
    let name = line.strip_prefix("fn ")?.split_once('(')?.0;
    (!name.is_empty() && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())).then_some(name)
}

/// The numbers of the cases in all tables (`id = "C19"`, `"case": "A05"`) and in lists of cases in sources (`("F16", …`).
pub fn cases(root: &Path) -> Result<BTreeSet<String>, String> {
    let mut numbers = BTreeSet::new();
    for text in texts(root, &["toml", "json", "rs"])? {
        for line in text.lines().map(str::trim_start) {
            for before in ["id = \"", "{\"case\": \"", "(\""] {
                let number = line.strip_prefix(before).and_then(|rest| rest.split_once('"')).map(|(number, _)| number);
                numbers.extend(number.map(String::from));
            }
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_where_it_begins_and_nowhere_else() {
        assert_eq!(function("fn a_test() {"), Some("a_test"));
        assert_eq!(function("    async fn a_test() {"), Some("a_test"));
        for other in ["// fn a_test() {", "let f = fn a_test();", "fn (", "fn a-b() {", "\"fn a_test() {\""] {
            assert_eq!(function(other), None, "{other}");
        }
    }
}
