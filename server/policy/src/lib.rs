//! Policy by Cedar: documents in, a compiled set out, one [`Decision`](server_core::ports::Decision) per query.
//!
//! What decides is what was applied, and [`BUILT_IN`]; a set that nobody wrote denies everything. Obligations ride on
//! policies as annotations (`@max_ttl("15m")`, `@binding("none")`): those of *every* satisfied permit apply. Knows no
//! task, lease or caller.
//!
//! - `source`: bounds a document's text before the parser sees it
//! - `compile`: documents → a validated set; all problems at once
//! - `obligation`: what an annotation may say
//! - `request`: a query → Cedar's entities and context
//! - `decide`: the answer, and the sentence for people

mod compile;
mod decide;
mod dev;
mod obligation;
mod request;
mod source;

pub use compile::CedarCompiler;
pub use dev::dev_policy;
pub use source::{MAX_DOCUMENT, MAX_POLICIES};

/// The schema that every policy is validated against, strictly. Cedar schema syntax.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The policies that are always there. They only forbid. Cedar syntax.
pub const BUILT_IN: &str = include_str!("built_in.cedar");
