//! Reading one TOML table key by key, collecting every problem instead of stopping at the first.
//!
//! Knows no key of its own. What nobody took is unknown, and an unknown key is a problem.

use super::ConfigProblem;
use proto_types::id::excerpt;
use toml::{Table, Value};

/// One table on its way to being a configuration.
pub struct Reader<'a> {
    at: String,
    left: Table,
    problems: &'a mut Vec<ConfigProblem>,
}

impl<'a> Reader<'a> {
    /// `at` names the table in problems: `agent`, `workload_attestor[0]`.
    pub fn new(at: impl Into<String>, table: Table, problems: &'a mut Vec<ConfigProblem>) -> Self {
        Self { at: at.into(), left: table, problems }
    }

    pub fn problem(&mut self, key: &str, what: impl Into<String>) {
        let at = if key.is_empty() { self.at.clone() } else { format!("{}.{key}", self.at) };
        self.problems.push(ConfigProblem { at, what: what.into() });
    }

    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key)
    }

    pub fn string(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::String(s) => Some(s),
            _ => {
                self.problem(key, "write a string");
                None
            }
        }
    }

    pub fn required(&mut self, key: &str, example: &str) -> Option<String> {
        if !self.left.contains_key(key) {
            self.problem(key, format!("is missing; write for example {key} = \"{example}\""));
        }
        self.string(key)
    }

    pub fn flag(&mut self, key: &str) -> bool {
        match self.take(key) {
            None => false,
            Some(Value::Boolean(b)) => b,
            Some(_) => {
                self.problem(key, "write true or false");
                false
            }
        }
    }

    /// A string, or a list of strings.
    pub fn strings(&mut self, key: &str) -> Vec<String> {
        let list = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(one) => vec![one],
        };
        let texts: Vec<_> = list.iter().filter_map(|v| v.as_str().map(String::from)).collect();
        if texts.len() != list.len() {
            self.problem(key, "write a string, or a list of strings");
        }
        texts
    }

    /// Every key that nobody took is a problem.
    pub fn finish(mut self) {
        let unknown: Vec<_> = std::mem::take(&mut self.left).into_iter().map(|(key, _)| excerpt(&key)).collect();
        for key in unknown {
            self.problem(&key, "is not known here; is it misspelled?");
        }
    }
}
