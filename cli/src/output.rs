//! What a command prints: data on stdout, as a table for people or as JSON for programs; everything else on stderr.
//!
//! JSON is printed as it is, whole and stable. A table shows the columns a verb chose, fits the terminal, and on a
//! pipe is as wide as its content.

pub mod style;
pub mod table;
pub mod value;

use crate::error::{CliError, Result};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use style::{Style, clean};
pub use table::Column;

/// `--output`: columns for people, or JSON for programs. JSON is one document, but streams print a record per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub format: Format,
    /// Columns of the terminal on stdout; `None` on a pipe.
    pub width: Option<u16>,
    pub style: Style,
}

impl Output {
    pub fn new(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { format, width: terminal.then(terminal_width).flatten(), style: Style::of_stdout() }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A list: `{"<key>": [...], "next": …}` or a table.
    pub fn list(&self, key: &str, rows: &[Value], next: Option<&Value>, columns: &[Column]) -> Result<()> {
        if self.is_json() {
            let mut document = json!({ key: rows });
            if let Some(next) = next {
                document["next"] = next.clone();
            }
            return self.json(&document);
        }
        if rows.is_empty() {
            self.note(format!("no {}", key.replace('_', " ")));
        } else {
            self.text(&table::list(rows, columns, self.width, self.style))?;
        }
        if next.is_some() {
            self.note("there is more: use --all, or a larger --limit");
        }
        Ok(())
    }

    /// Rows that are shown to the person who must decide, not handed on.
    pub fn aside(&self, rows: &[Value], columns: &[Column]) {
        let width = io::stderr().is_terminal().then(terminal_width).flatten();
        let _ = write!(io::stderr(), "{}", table::list(rows, columns, width, Style::of_stderr()));
    }

    /// One thing: the whole of it in JSON, or the chosen fields one per line.
    pub fn one(&self, value: &Value, fields: &[Column]) -> Result<()> {
        if self.is_json() { self.json(value) } else { self.text(&table::card(value, fields, self.style)) }
    }

    /// A JSON document, indented on a terminal and one line on a pipe.
    pub fn json(&self, value: &Value) -> Result<()> {
        let text = if self.width.is_some() { format!("{value:#}") } else { value.to_string() };
        write_out(&format!("{text}\n"))
    }

    /// Something was done: a document for programs, a remark for people.
    pub fn done(&self, document: &Value, remark: impl AsRef<str>) -> Result<()> {
        if self.is_json() {
            return self.json(document);
        }
        self.note(remark);
        Ok(())
    }

    /// Text for stdout, as it is.
    pub fn text(&self, text: &str) -> Result<()> {
        write_out(text)
    }

    /// A remark for the person who typed the command.
    pub fn note(&self, text: impl AsRef<str>) {
        // A closed stderr is no reason to fail a command that worked.
        let _ = writeln!(io::stderr(), "{}", clean(text.as_ref()));
    }

    pub fn warn(&self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr(), "{} {}", Style::of_stderr().warning("warning:"), clean(text.as_ref()));
    }
}

/// Text for stdout. A reader that went away is not a failure.
pub fn write_out(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::stdout)
}

/// `COLUMNS` when the user set it, else what the terminal says.
fn terminal_width() -> Option<u16> {
    let said = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    said.or_else(|| comfy_table::Table::new().width()).or(Some(80))
}
