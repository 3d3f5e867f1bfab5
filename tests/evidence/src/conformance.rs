//! `docs/conformance.md`: statements of the SPIFFE standards, and the tests that show them.

use crate::{MADE, code};
use serde::Deserialize;
use std::{collections::BTreeSet, fmt::Write as _};

/// All statements, in the order of the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conformance {
    pub statement: Vec<Statement>,
}

/// One statement. It has tests, or a reason why it has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The part of the standards that it belongs to.
    pub of: String,
    /// Document and section.
    pub section: String,
    /// Our words for it.
    pub says: String,
    #[serde(default)]
    pub tests: Vec<String>,
    /// The cases of the tables that show it.
    #[serde(default)]
    pub cases: Vec<String>,
    /// Why nothing shows it.
    pub not_shown: Option<String>,
    /// Where Errand does otherwise, or more, or less.
    pub remark: Option<String>,
}

/// The committed data.
pub fn read() -> Result<Conformance, String> {
    let data: Conformance = toml::from_str(include_str!("../data/conformance.toml")).map_err(|e| e.to_string())?;
    match data.statement.iter().find(|s| s.tests.is_empty() != s.not_shown.is_some()) {
        Some(s) => Err(format!("`{}` has either tests or a reason why it has none", s.says)),
        None => Ok(data),
    }
}

impl Conformance {
    pub fn tests(&self) -> BTreeSet<String> {
        self.statement.iter().flat_map(|s| s.tests.iter().cloned()).collect()
    }

    /// The cases that statements name.
    pub fn cases(&self) -> BTreeSet<String> {
        self.statement.iter().flat_map(|s| s.cases.iter().cloned()).collect()
    }

    /// The page.
    pub fn page(&self) -> String {
        let shown = self.statement.iter().filter(|s| s.not_shown.is_none()).count();
        let mut page = format!(
            "# Conformance with the SPIFFE standards\n\n\
             What the standards demand, in our words, and the tests that show it: {shown} of {} statements. {MADE}\n\n\
             EP is SPIFFE_Workload_Endpoint, WA SPIFFE_Workload_API, ID SPIFFE-ID, X X509-SVID, J JWT-SVID, B \
             SPIFFE_Trust_Domain_and_Bundle, F SPIFFE_Federation. Numbers like C19 are cases of the tables in \
             [hardening.md](hardening.md).\n",
            self.statement.len()
        );
        let mut part = "";
        for s in &self.statement {
            if s.of != part {
                part = &s.of;
                _ = write!(page, "\n## {part}\n\n| section | statement | shown by | outcome |\n|---|---|---|---|\n");
            }
            _ = writeln!(page, "{}", s.row());
        }
        page
    }
}

impl Statement {
    fn row(&self) -> String {
        let remark = self.remark.as_ref().map(|r| format!("<br>*{r}*")).unwrap_or_default();
        let cases = if self.cases.is_empty() { String::new() } else { format!("<br>{}", self.cases.join(", ")) };
        let (by, outcome) = match &self.not_shown {
            Some(why) => (why.clone(), "not shown"),
            None => (code(&self.tests) + &cases, "passed"),
        };
        format!("| {} | {}{remark} | {by} | {outcome} |", self.section, self.says)
    }
}
