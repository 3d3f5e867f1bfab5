//! The command line from outside: the program itself, against fake servers and agents.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod fake;
mod run;
mod verbs;
