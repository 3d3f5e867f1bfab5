//! Targets: the systems that accept short-lived credentials. One folder per kind, one line in [`Registry::builtin`].
//!
//! Decides how a `[[target]]` document is read and how each kind creates, ends, finds and checks its credentials.
//! Does not decide who may have one, when it ends, or what is retried: that is `server-service`.

mod aws;
mod document;
mod fields;
mod masks;
mod postgres;
mod registry;
mod secret_file;
mod ssh;

pub use document::{documents, parse_toml};
pub use masks::{KNOWN_KINDS, mask_of};
pub use registry::Registry;
