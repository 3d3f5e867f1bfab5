//! How `errand run` itself fails, and with which exit status: the house's own where one says it, else 125, and 126 or
//! 127 for a CMD that cannot be executed, as shells have it.

use crate::{
    error::{CliError, Exit},
    output::style::Style,
};
use std::fmt::Display;

/// `errand run` failed and no other status says it better.
pub const OWN: i32 = 125;
/// CMD is there and cannot be executed.
pub const NOT_EXECUTABLE: i32 = 126;
/// CMD is not there.
pub const NOT_FOUND: i32 = 127;

/// A failure with its exit status.
#[derive(Debug)]
pub struct Failure {
    pub code: i32,
    /// Absent when there is nothing to say: the user interrupted.
    error: Option<CliError>,
}

impl Failure {
    /// Of `errand run` itself.
    pub fn own(what: impl Display) -> Self {
        Self { code: OWN, error: Some(CliError::failed(what)) }
    }
    /// Of CMD, before it ran.
    pub fn command(code: i32, what: impl Display) -> Self {
        Self { code, error: Some(CliError::failed(what)) }
    }
    pub fn usage(what: impl Display) -> Self {
        CliError::usage(what).into()
    }
    /// A signal ended the preparations.
    pub fn interrupted(signal: i32) -> Self {
        Self { code: 128 + signal, error: None }
    }
    /// What to do next.
    pub fn hint(self, next: impl Display) -> Self {
        Self { error: self.error.map(|e| e.hint(next)), ..self }
    }

    /// Says it on stderr and answers the exit status.
    pub fn report(&self) -> i32 {
        if let Some(error) = &self.error {
            eprint!("{}", error.render(Style::of_stderr()));
        }
        self.code
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        let code = match error.exit() {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 69,
            Exit::Pending => 75,
            Exit::Denied => 77,
            Exit::Config => 78,
        };
        Self { code, error: Some(error) }
    }
}

/// One line for the person, while CMD runs.
pub fn note(text: impl Display) {
    // CMD's stderr is shared: a closed one is no reason to stop supervising.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "errand: {}", crate::output::style::clean(&text.to_string()));
}
