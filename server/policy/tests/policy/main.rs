//! What policy answers, as tables: every case of `tests/data/*.toml` by its name.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a test that fails")]

mod decisions;
mod documents;
mod query;
mod quotes;
