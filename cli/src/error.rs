//! How a command fails: what was wrong, where, what to do next, and with which exit status.
//!
//! Decides the exit statuses of every operator verb and how a failure looks. Which failure it was is decided where it
//! happened: an admin answer in `admin_client::problem`, an agent's in `verbs::svid`.

use crate::output::style::{Style, clean};
use std::{fmt, io};

/// The exit statuses that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// No server or agent answered.
    Unreachable = 69,
    /// A person must approve first.
    Pending = 75,
    Denied = 77,
    /// A configuration or declaration file is not acceptable.
    Config = 78,
}

/// A command's failure.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    what: String,
    place: Option<String>,
    next: Option<String>,
    /// The reader of stdout went away (`errand … | head`): nothing to say, nothing failed.
    reader_gone: bool,
    /// The server found what was sent malformed (400 or 422), not refused or impossible.
    invalid: bool,
}

pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { exit, what: what.to_string(), place: None, next: None, reader_gone: false, invalid: false }
    }
    pub fn failed(what: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, what)
    }
    pub fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what)
    }
    pub fn unreachable(what: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, what)
    }
    pub fn pending(what: impl fmt::Display) -> Self {
        Self::new(Exit::Pending, what)
    }
    pub fn denied(what: impl fmt::Display) -> Self {
        Self::new(Exit::Denied, what)
    }
    pub fn config(what: impl fmt::Display) -> Self {
        Self::new(Exit::Config, what)
    }
    /// Where it happened: a file, a socket, a position.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(place.to_string());
        self
    }
    /// What to do next.
    pub fn hint(mut self, next: impl fmt::Display) -> Self {
        self.next = Some(next.to_string());
        self
    }
    /// Another status for the same story.
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Marks that what was sent is malformed.
    pub fn invalid(mut self) -> Self {
        self.invalid = true;
        self
    }
    pub fn is_invalid(&self) -> bool {
        self.invalid
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Writing to stdout failed.
    pub fn stdout(error: io::Error) -> Self {
        let reader_gone = error.kind() == io::ErrorKind::BrokenPipe;
        let exit = if reader_gone { Exit::Done } else { Exit::Failed };
        Self { reader_gone, ..Self::new(exit, format!("could not write to standard output: {error}")) }
    }

    /// The lines for stderr; empty when there is nothing to say.
    pub fn render(&self, style: Style) -> String {
        if self.reader_gone {
            return String::new();
        }
        let mut text = format!("{} {}\n", style.error("error:"), clean(&self.what));
        if let Some(place) = &self.place {
            text.push_str(&format!("  {} {}\n", style.faint("where:"), clean(place)));
        }
        if let Some(next) = &self.next {
            text.push_str(&format!("   {} {}\n", style.faint("next:"), clean(next)));
        }
        text
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for CliError {}

/// Reads a whole file; at most `limit` bytes, so that a wrong path does not fill memory.
pub fn read_file(path: &std::path::Path, limit: u64) -> Result<Vec<u8>> {
    use io::Read;
    let fail = |e: io::Error| CliError::failed(format!("cannot read the file: {e}")).at(path.display());
    let mut bytes = Vec::new();
    if path == std::path::Path::new("-") {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    } else {
        std::fs::File::open(path).map_err(fail)?.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    }
    if bytes.len() as u64 > limit {
        return Err(CliError::failed(format!("the file is larger than {limit} bytes")).at(path.display()));
    }
    Ok(bytes)
}

/// The same, as UTF-8 text.
pub fn read_text(path: &std::path::Path, limit: u64) -> Result<String> {
    String::from_utf8(read_file(path, limit)?)
        .map_err(|_| CliError::config("the file is not UTF-8 text").at(path.display()))
}
