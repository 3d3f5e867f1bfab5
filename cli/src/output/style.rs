//! Colour, and what may reach a terminal at all.
//!
//! Intents, names and messages come from workloads and targets: a control sequence in one of them must not rewrite
//! what an operator reads.

use std::io::IsTerminal;

/// Whether to colour. `NO_COLOR` (any value) and `TERM=dumb` turn it off; a pipe never has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    colour: bool,
}

impl Style {
    pub const PLAIN: Self = Self { colour: false };

    pub fn of_stderr() -> Self {
        Self { colour: std::io::stderr().is_terminal() && wanted() }
    }
    pub fn of_stdout() -> Self {
        Self { colour: std::io::stdout().is_terminal() && wanted() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// `text` without anything a terminal would obey or a reader could not see: control characters, direction marks and
/// zero-width characters become `\u{fffd}`. Line breaks and tabs stay.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && c != '\t' && is_hostile(c) { '\u{fffd}' } else { c }).collect()
}

/// The same on one line: for a cell of a table.
pub fn clean_line(text: &str) -> String {
    text.chars().map(|c| if is_hostile(c) { '\u{fffd}' } else { c }).collect()
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
