//! One section read key by key: every problem is kept, and a key nobody asked for is one.

use proto_types::{id::excerpt, parse_duration};
use server_core::journal::Format;
use std::{
    fmt,
    path::{Component, PathBuf},
    time::Duration,
};
use toml::{Table, Value};

/// Something wrong in a section: which sink, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkProblem {
    pub at: String,
    pub what: String,
}

impl fmt::Display for SinkProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// A table being read. Call [`Section::finish`] last.
pub(crate) struct Section {
    at: String,
    table: Table,
    asked: Vec<&'static str>,
    problems: Vec<SinkProblem>,
}

impl Section {
    pub(crate) fn new(at: String, table: Table) -> Self {
        // `kind` and `name` were read before.
        Self { at, table, asked: vec!["kind", "name"], problems: Vec::new() }
    }

    pub(crate) fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(SinkProblem { at: self.at.clone(), what: what.into() });
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        self.asked.push(key);
        match self.table.remove(key)? {
            Value::String(s) if (1..=1024).contains(&s.len()) && !s.chars().any(char::is_control) => Some(s),
            _ => {
                self.problem(format!("`{key}` is a string of one line, not empty"));
                None
            }
        }
    }

    pub(crate) fn required(&mut self, key: &'static str, example: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.asked.push(key);
            self.problem(format!("`{key}` is missing, such as {key} = \"{example}\""));
            return None;
        }
        self.text(key)
    }

    /// An absolute path without `..`.
    pub(crate) fn path_of(&mut self, key: &'static str, text: String) -> Option<PathBuf> {
        let path = PathBuf::from(text);
        let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if path.is_absolute() && plain {
            return Some(path);
        }
        self.problem(format!("`{key}` is an absolute path without `..`"));
        None
    }

    pub(crate) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        self.path_of(key, text)
    }

    pub(crate) fn duration(&mut self, key: &'static str, least: Duration, most: Duration) -> Option<Duration> {
        let text = self.text(key)?;
        match parse_duration(&text) {
            Ok(d) if d >= least && d <= most => Some(d),
            Ok(_) => {
                let (least, most) = (proto_types::format_duration(least), proto_types::format_duration(most));
                self.problem(format!("`{key}` is between {least} and {most}"));
                None
            }
            Err(e) => {
                self.problem(format!("`{key}`: {e}"));
                None
            }
        }
    }

    /// One of a few words; the first is taken when the key is absent.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, of: &[(&str, T)]) -> T {
        let default = of[0].1;
        let Some(text) = self.text(key) else { return default };
        match of.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *value,
            None => {
                let words: Vec<_> = of.iter().map(|(word, _)| *word).collect();
                self.problem(format!("`{key}` is one of {}, not `{}`", words.join(", "), excerpt(&text)));
                default
            }
        }
    }

    pub(crate) fn format(&mut self) -> Format {
        self.choice("format", &Format::ALL.map(|f| (f.name(), f)))
    }

    /// Refuses every key that was not asked for. `true` when nothing is wrong.
    pub(crate) fn finish(mut self, problems: &mut Vec<SinkProblem>) -> bool {
        let unknown: Vec<_> = self.table.keys().map(|k| excerpt(k)).collect();
        for key in unknown {
            let known = self.asked.join(", ");
            self.problem(format!("unknown key `{key}`; the keys are: {known}"));
        }
        let sound = self.problems.is_empty();
        problems.append(&mut self.problems);
        sound
    }
}
