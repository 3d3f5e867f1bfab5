//! The command line of `errand`, as a library so that tests may look at it.
//!
//! Decides which verbs there are and that each ends in one exit status. What a verb does is in `verbs`, `run`,
//! `exchange`, `dev` and `serve`.

pub mod admin_client;
pub mod agent_client;
mod cores;
pub mod dev;
pub mod error;
pub mod exchange;
pub mod output;
pub mod run;
pub mod serve;
mod ssh;
pub mod store;
mod variables;
pub mod verbs;

use crate::error::Exit;
use clap::FromArgMatches;
use output::style::Style;
use std::ffi::OsString;

/// The whole tree of commands, every flag with its variable.
pub fn command() -> clap::Command {
    variables::named(<verbs::Cli as clap::CommandFactory>::command())
}

/// Runs one command and returns its exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let parsed = command().try_get_matches_from(args).and_then(|m| verbs::Cli::from_arg_matches(&m));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout, a usage error to stderr; clap knows which. A closed pipe changes nothing.
            let _ = error.print();
            return error.exit_code();
        }
    };
    match verbs::dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", error.render(Style::of_stderr()));
            error.exit() as i32
        }
    }
}

/// What a command that did its work returns.
pub(crate) const DONE: i32 = Exit::Done as i32;
