//! Sinks: the places outside that take the journal. One folder a kind, one line in [`KINDS`].
//!
//! Decides what a kind's section may say and how one batch is handed over. What comes next, when it is tried again and
//! where each sink stands is the service's.
//!
//! How to add a kind: a folder with a type that implements [`Place`] (reading its section, opening the sink) and one
//! that implements `server_core::ports::Sink`; one line in [`KINDS`]; its rows in `docs/operations.md`.

mod file;
mod http;
mod section;
mod syslog;

use proto_types::Clock;
use section::Section;
use server_core::ports::{Sink, SinkError};
use std::{fmt, path::Path, sync::Arc, time::Duration};
use toml::{Table, Value};

pub use section::SinkProblem;

/// How long one batch may take when the section does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A kind's own part of a section, checked: where the journal goes.
pub trait Place: fmt::Debug + Send + Sync {
    /// Makes the sink. Opens nothing that could wait.
    fn open(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, SinkError>;
    /// The file this writes to, when it writes to one.
    fn file(&self) -> Option<&Path> {
        None
    }
}

type Read = fn(&mut Section) -> Option<Arc<dyn Place>>;

/// The kinds there are: one line each.
const KINDS: &[(&str, Read)] = &[("file", file::read), ("http", http::read), ("syslog", syslog::read)];

/// One `[[journal.sink]]`, checked.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    pub name: String,
    pub kind: &'static str,
    pub timeout: Duration,
    pub place: Arc<dyn Place>,
}

/// Reads every `[[journal.sink]]`. All problems at once.
pub fn read(tables: Vec<Table>) -> Result<Vec<SinkConfig>, Vec<SinkProblem>> {
    let mut problems = Vec::new();
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for (i, table) in tables.into_iter().enumerate() {
        let Some(sink) = one(i, table, &mut problems) else { continue };
        let mut twice = |what: String| problems.push(SinkProblem { at: sink.name.clone(), what });
        if sinks.iter().any(|s| s.name == sink.name) {
            twice(format!("the name `{}` is taken by another sink; give this one a `name` of its own", sink.name));
        }
        if sink.place.file().is_some_and(|path| sinks.iter().any(|s| s.place.file() == Some(path))) {
            twice("another sink writes to the same `path`".into());
        }
        sinks.push(sink);
    }
    if problems.is_empty() { Ok(sinks) } else { Err(problems) }
}

fn one(i: usize, mut table: Table, problems: &mut Vec<SinkProblem>) -> Option<SinkConfig> {
    let kind = match table.remove("kind") {
        Some(Value::String(kind)) => kind,
        _ => String::new(),
    };
    let Some((kind, read)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        let what = format!("`kind` is one of {}, not `{}`", known.join(", "), proto_types::id::excerpt(&kind));
        problems.push(SinkProblem { at: format!("number {}", i + 1), what });
        return None;
    };
    let name = match table.remove("name") {
        None => Some((*kind).to_string()),
        Some(Value::String(name)) if proto_types::target::is_name(&name) => Some(name),
        Some(_) => {
            let what = "`name` is made of a-z, 0-9, - and _".into();
            problems.push(SinkProblem { at: format!("number {}", i + 1), what });
            None
        }
    };
    let mut section = Section::new(name.clone().unwrap_or_else(|| format!("number {}", i + 1)), table);
    let timeout = section.duration("timeout", Duration::from_millis(100), Duration::from_secs(300));
    let place = read(&mut section);
    let sound = section.finish(problems);
    Some(SinkConfig { name: name?, kind, timeout: timeout.unwrap_or(TIMEOUT), place: place.filter(|_| sound)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<SinkConfig>, Vec<SinkProblem>> {
        #[derive(serde::Deserialize)]
        struct File {
            sink: Vec<Table>,
        }
        read(toml::from_str::<File>(text).unwrap().sink)
    }

    #[test]
    fn a_section_says_where_the_journal_goes_and_every_problem_of_a_bad_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().display().to_string();
        let good = format!("[[sink]]\nkind = \"file\"\npath = \"{at}/a.jsonl\"\nformat = \"ocsf\"\ntimeout = \"5s\"\n");
        let sinks = read_text(&good).unwrap();
        assert_eq!((sinks[0].name.as_str(), sinks[0].kind, sinks[0].timeout), ("file", "file", Duration::from_secs(5)));
        let second = good.replace("kind", "name = \"second\"\nkind").replace("a.jsonl", "b.jsonl");
        assert_eq!(read_text(&(good.clone() + &second)).unwrap().len(), 2);
        for (changed, names) in [
            (good.replace("kind = \"file\"", "kind = \"carrier-pigeon\""), "`kind`"),
            (good.replace("kind = \"file\"\n", ""), "`kind`"),
            (good.replace("/a.jsonl", "/../a.jsonl"), "`path`"),
            (good.replace(&format!("{at}/"), ""), "`path`"),
            (good.replace("a.jsonl", "no/folder/a.jsonl"), "`path`"),
            (good.replace("/a.jsonl", ""), "a directory"),
            (good.replace("ocsf", "xml"), "`format`"),
            (good.replace("5s", "5h"), "`timeout`"),
            (good.replace("format", "fromat"), "`fromat`"),
            (good.replace("kind", "name = \"A B\"\nkind"), "`name`"),
            (good.clone() + &second.replace("second", "file"), "another sink"),
            (good.clone() + &second.replace("b.jsonl", "a.jsonl"), "same `path`"),
        ] {
            let problems = read_text(&changed).unwrap_err();
            assert!(problems.iter().any(|p| p.what.contains(names)), "{names}: {problems:?}");
        }
        let both = read_text(&good.replace("ocsf", "xml").replace("5s", "soon")).unwrap_err();
        assert_eq!(both.len(), 2, "{both:?}");
    }
}
