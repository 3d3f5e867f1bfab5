//! `docs/hardening.md`: the bad inputs that are tried and the faults that are caused, with the tests that do it.
//!
//! Cases are counted in the tables that the tests themselves read.

use crate::{MADE, code};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

/// Everything on the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardening {
    pub inputs: Vec<Inputs>,
    pub fault: Vec<Fault>,
}

/// One group of bad inputs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    pub group: String,
    pub what: String,
    /// The table its cases are in; without one they are in the tests.
    pub table: Option<Table>,
    pub tests: Vec<String>,
    pub remark: Option<String>,
}

/// How the cases of a table are counted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its file, from the root.
    pub file: String,
    /// The member that holds the cases; the file is their list when it is absent.
    pub cases: Option<String>,
    /// The member of a case that is refused.
    pub refused: String,
    /// The member of a case that is its accepted twin.
    pub twin: String,
    /// A case that names no twin has the ordinary good input for one, and the test accepts it.
    #[serde(default)]
    pub usual_twin: bool,
}

/// One fault.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub id: String,
    pub what: String,
    /// How often it is caused in one run of the tests.
    pub runs: String,
    pub tests: Vec<String>,
}

/// How many cases of a table are refused, and how many have an accepted twin.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    pub refused: usize,
    pub twins: usize,
}

/// The committed data.
pub fn read() -> Result<Hardening, String> {
    toml::from_str(include_str!("../data/hardening.toml")).map_err(|e| e.to_string())
}

impl Table {
    pub fn count(&self, root: &Path) -> Result<Count, String> {
        let said = |e: &dyn std::fmt::Display| format!("{}: {e}", self.file);
        let text = fs::read_to_string(root.join(&self.file)).map_err(|e| said(&e))?;
        let whole: Value = match self.file.strip_suffix(".json") {
            Some(_) => serde_json::from_str(&text).map_err(|e| said(&e))?,
            None => toml::from_str(&text).map_err(|e| said(&e))?,
        };
        let cases = self.cases.as_ref().map_or(Some(&whole), |name| whole.get(name)).and_then(Value::as_array);
        let cases = cases.ok_or_else(|| said(&"there is no list of cases"))?;
        let has = |case: &Value, member: &str| case.get(member).is_some_and(|v| !v.is_null());
        let bad: Vec<_> = cases.iter().filter(|case| has(case, &self.refused)).collect();
        let twins = bad.iter().filter(|case| self.usual_twin || has(case, &self.twin)).count();
        Ok(Count { refused: bad.len(), twins })
    }
}

impl Hardening {
    pub fn tests(&self) -> BTreeSet<String> {
        let inputs = self.inputs.iter().flat_map(|i| &i.tests);
        inputs.chain(self.fault.iter().flat_map(|f| &f.tests)).cloned().collect()
    }

    /// The page.
    pub fn page(&self, root: &Path) -> Result<String, String> {
        let mut page = format!(
            "# Hardening\n\nWhat is done to Errand on purpose, and the tests that do it. {MADE}\n\n\
             ## Bad inputs\n\n\
             Beside each bad input stands one that is nearly the same and is accepted: what refuses everything would \
             pass otherwise. *refused* and *twins* are counted in the tables that the tests read, and bad inputs may \
             share a twin; where there is no table, the cases stand in the tests. A table's test fails on the first case that is not refused for its own \
             reason, and on the first twin that is.\n\n\
             | group | inputs | tried | refused | twins accepted | tests |\n|---|---|---|---|---|---|\n"
        );
        let (mut refused, mut twins) = (0, 0);
        for inputs in &self.inputs {
            let remark = inputs.remark.as_ref().map(|r| format!("<br>*{r}*")).unwrap_or_default();
            let counts = match inputs.table.as_ref().map(|t| t.count(root)).transpose()? {
                Some(n) => {
                    (refused, twins) = (refused + n.refused, twins + n.twins);
                    format!("{} | {} | {}", n.refused + n.twins, n.refused, n.twins)
                }
                None => "in the tests | – | –".into(),
            };
            _ = writeln!(page, "| {} | {}{remark} | {counts} | {} |", inputs.group, inputs.what, code(&inputs.tests));
        }
        _ = write!(
            page,
            "| all | what is in tables | {} | {refused} | {twins} | |\n\n\
             ## Faults\n\n\
             Each is caused in processes or threads of the test's own, and what must hold is looked at afterwards: no \
             lease forgotten, no credential without its record, nothing acknowledged that is lost. One violation fails \
             the test, so a run that passed had none. That the checker finds violations is shown by planted ones.\n\n\
             | fault | what happens | in one run | violations | tests |\n|---|---|---|---|---|\n",
            refused + twins
        );
        for fault in &self.fault {
            _ = writeln!(page, "| {} | {} | {} | 0 | {} |", fault.id, fault.what, fault.runs, code(&fault.tests));
        }
        Ok(page)
    }
}
