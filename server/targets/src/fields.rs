//! One table of a document, read key by key: every problem is kept, and a key nobody asked for is one.
//!
//! Serde would stop at the first mistake; people who write configuration want all of them.

use crate::document::is_inline_secret;
use proto_types::{id::excerpt, parse_duration};
use serde_json::{Map, Value};
use server_core::ports::TargetProblem;
use std::{path::PathBuf, time::Duration};

/// A table being read. Call [`Section::finish`] last.
pub(crate) struct Section<'a> {
    target: &'a str,
    /// What the table is, in messages: `` role `readonly`: `` or nothing.
    place: String,
    map: Map<String, Value>,
    asked: Vec<&'static str>,
}

/// Problems of one target.
pub(crate) type Problems = Vec<TargetProblem>;

impl<'a> Section<'a> {
    pub(crate) fn new(target: &'a str, place: impl Into<String>, map: Map<String, Value>) -> Self {
        Self { target, place: place.into(), map, asked: Vec::new() }
    }

    pub(crate) fn problem(&self, problems: &mut Problems, text: impl std::fmt::Display) {
        problems.push(TargetProblem { target: self.target.into(), problem: format!("{}{text}", self.place) });
    }

    pub(crate) fn text(&mut self, key: &'static str, problems: &mut Problems) -> Option<String> {
        match self.take(key)? {
            Value::String(s) if clean(&s) => Some(s),
            Value::String(s) => {
                let shown = excerpt(&s);
                self.problem(problems, format!("`{key}` is empty, too long or holds control characters: `{shown}`"));
                None
            }
            _ => {
                self.problem(problems, format!("`{key}` is not a string"));
                None
            }
        }
    }

    pub(crate) fn required(&mut self, key: &'static str, example: &str, problems: &mut Problems) -> Option<String> {
        if !self.map.contains_key(key) {
            self.asked.push(key);
            self.problem(problems, format!("`{key}` is missing, such as {key} = \"{example}\""));
            return None;
        }
        self.text(key, problems)
    }

    /// An absolute path.
    pub(crate) fn path(&mut self, key: &'static str, problems: &mut Problems) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key, problems)?);
        if path.is_absolute() {
            return Some(path);
        }
        self.problem(problems, format!("`{key}` is not an absolute path"));
        None
    }

    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        least: Duration,
        most: Duration,
        problems: &mut Problems,
    ) -> Option<Duration> {
        let text = self.text(key, problems)?;
        match parse_duration(&text) {
            Ok(d) if d >= least && d <= most => Some(d),
            Ok(_) => {
                let (least, most) = (proto_types::format_duration(least), proto_types::format_duration(most));
                self.problem(problems, format!("`{key}` is not between {least} and {most}"));
                None
            }
            Err(e) => {
                self.problem(problems, format!("`{key}`: {e}"));
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, key: &'static str, least: i64, most: i64, problems: &mut Problems) -> Option<i64> {
        match self.take(key)?.as_i64() {
            Some(n) if (least..=most).contains(&n) => Some(n),
            _ => {
                self.problem(problems, format!("`{key}` is not a whole number between {least} and {most}"));
                None
            }
        }
    }

    /// `true` or `false`; absent is `false`.
    pub(crate) fn flag(&mut self, key: &'static str, problems: &mut Problems) -> bool {
        match self.take(key) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.problem(problems, format!("`{key}` is not true or false"));
                false
            }
        }
    }

    /// What stands there, for a kind that reads it in its own way.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.take(key)
    }

    pub(crate) fn texts(&mut self, key: &'static str, problems: &mut Problems) -> Option<Vec<String>> {
        let Value::Array(items) = self.take(key)? else {
            self.problem(problems, format!("`{key}` is not a list of strings"));
            return None;
        };
        let texts: Vec<_> = items.iter().filter_map(Value::as_str).filter(|s| clean(s)).map(str::to_string).collect();
        if texts.len() == items.len() && items.len() <= 100 {
            return Some(texts);
        }
        self.problem(problems, format!("`{key}` is not a list of at most 100 strings without control characters"));
        None
    }

    /// `[[target.KEY]]` tables.
    pub(crate) fn tables(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Map<String, Value>> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) if items.iter().all(Value::is_object) => items,
            Some(_) => {
                self.problem(problems, format!("`{key}` is not an array of tables: write [[target.{key}]]"));
                return Vec::new();
            }
        };
        items.into_iter().filter_map(|v| if let Value::Object(map) = v { Some(map) } else { None }).collect()
    }

    /// Refuses every key that was not asked for.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for key in self.map.keys().filter(|k| !is_inline_secret(k)) {
            let known = self.asked.join(", ");
            self.problem(problems, format!("unknown key `{}`; the keys are: {known}", excerpt(key)));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.map.remove(key)
    }
}

/// What any text of a document must be: not empty, at most 1024 bytes, one line.
fn clean(text: &str) -> bool {
    (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control)
}
