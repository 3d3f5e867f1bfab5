//! The agent's end: the token from its configuration or from a file, sent once.

use super::{MAX_TOKEN, NAME, is_token};
use crate::{
    channel::ProverChannel,
    method::{ProveError, Prover, Section, SectionProblem},
};
use proto_types::{Fut, Secret};
use std::{io::Read as _, path::PathBuf, sync::Arc};

enum Source {
    Inline(Secret<String>),
    /// Read at the moment it is needed: a node that has its identity needs no token any more.
    File(PathBuf),
}

/// Proves a node by a join token.
pub struct JoinTokenProver(Source);

impl JoinTokenProver {
    /// From the token itself.
    pub fn new(token: Secret<String>) -> Self {
        Self(Source::Inline(token))
    }

    fn token(&self) -> Result<Secret<Vec<u8>>, ProveError> {
        let bytes = match &self.0 {
            Source::Inline(token) => Secret::new(token.expose().clone().into_bytes()),
            Source::File(path) => read_token(path)?,
        };
        if is_token(bytes.expose()) {
            Ok(bytes)
        } else {
            let why = "a join token is one line of 1 to 256 printable characters";
            Err(ProveError::Malformed { method: NAME, what: "the token", why })
        }
    }
}

/// Reads at most one line's worth; a longer file is refused by what remains of it.
fn read_token(path: &std::path::Path) -> Result<Secret<Vec<u8>>, ProveError> {
    let unreadable = |e: std::io::Error| ProveError::Unreadable {
        method: NAME,
        what: "the file of `token_file`",
        why: e.kind().to_string(),
    };
    let mut bytes = Vec::with_capacity(MAX_TOKEN + 3);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_TOKEN as u64 + 3).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(Secret::new(bytes))
}

impl Prover for JoinTokenProver {
    fn method(&self) -> &'static str {
        NAME
    }
    fn can_reattest(&self) -> bool {
        false
    }
    fn prove<'a>(&'a self, channel: &'a mut dyn ProverChannel) -> Fut<'a, Result<(), ProveError>> {
        Box::pin(async move {
            match channel.send(self.token()?).await? {
                None => Ok(()),
                Some(_) => Err(ProveError::UnexpectedChallenge(NAME)),
            }
        })
    }
}

/// `token` or `token_file`, exactly one of them.
pub(super) fn make(section: &Section) -> Result<Arc<dyn Prover>, Vec<SectionProblem>> {
    let mut problems = Vec::new();
    for key in section.keys().filter(|k| !matches!(k.as_str(), "token" | "token_file")) {
        let what = format!("`{}` is not known here; known are `token` and `token_file`", proto_types::id::excerpt(key));
        problems.push(SectionProblem { key: "", what });
    }
    let token = text(section, "token", &mut problems);
    let file = text(section, "token_file", &mut problems);
    let source = match (token, file) {
        (Some(_), Some(_)) => {
            Err(SectionProblem { key: "token", what: "write `token` or `token_file`, not both".into() })
        }
        (Some(token), None) if !is_token(token.as_bytes()) => {
            Err(SectionProblem { key: "token", what: "a join token has 1 to 256 printable characters".into() })
        }
        (Some(token), None) => Ok(Source::Inline(Secret::new(token))),
        (None, Some(path)) if path.starts_with('/') => Ok(Source::File(path.into())),
        (None, Some(_)) => Err(SectionProblem { key: "token_file", what: "write an absolute path".into() }),
        (None, None) => Err(SectionProblem {
            key: "token",
            what: "write `token` or `token_file`; `errand node token` makes a token".into(),
        }),
    };
    match source {
        Ok(source) if problems.is_empty() => Ok(Arc::new(JoinTokenProver(source))),
        Ok(_) => Err(problems),
        Err(problem) => {
            // A key of the wrong type has been named already; that nothing was given would be a second, false problem.
            if problems.iter().all(|p| p.key != problem.key && p.key != "token_file") {
                problems.push(problem);
            }
            Err(problems)
        }
    }
}

fn text(section: &Section, key: &'static str, problems: &mut Vec<SectionProblem>) -> Option<String> {
    match section.get(key)? {
        toml::Value::String(s) => Some(s.clone()),
        _ => {
            problems.push(SectionProblem { key, what: "write a string".into() });
            None
        }
    }
}
