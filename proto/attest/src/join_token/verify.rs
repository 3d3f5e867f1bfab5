//! The server's end: a token that was issued, has not expired and has not been spent.
//!
//! The lookup here refuses early and kindly; what makes a token single-use is the guard in the commit.

use super::{NAME, agent_id, is_token, token_digest};
use crate::{
    channel::VerifierChannel,
    method::{Attested, Evidence, Section, SectionProblem, Spend, Verifier, VerifierPorts, VerifyError},
};
use proto_types::{Fut, JoinToken};
use std::sync::Arc;

/// The tokens that were issued, by digest.
pub trait JoinTokens: Send + Sync {
    /// The unspent token with this SHA-256 (lowercase hex), expired or not.
    fn find<'a>(&'a self, digest: &'a str) -> Fut<'a, Result<Option<JoinToken>, TokenLookupError>>;
}

/// The tokens cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenLookupError(pub String);

/// Verifies join tokens.
pub struct JoinTokenVerifier {
    tokens: Arc<dyn JoinTokens>,
}

impl JoinTokenVerifier {
    pub fn new(tokens: Arc<dyn JoinTokens>) -> Self {
        Self { tokens }
    }
}

impl Verifier for JoinTokenVerifier {
    fn method(&self) -> &'static str {
        NAME
    }

    fn verify<'a>(
        &'a self,
        evidence: Evidence<'a>,
        _channel: &'a mut dyn VerifierChannel,
    ) -> Fut<'a, Result<Attested, VerifyError>> {
        Box::pin(async move {
            if !is_token(evidence.payload) {
                let what = "a join token has 1 to 256 printable characters";
                return Err(VerifyError::Malformed { method: NAME, what });
            }
            // One answer for unknown, spent and expired: which of them it was helps only a guesser.
            let refused = VerifyError::Refused {
                method: NAME,
                why: "the token is unknown, spent or expired; make a new one with `errand node token`",
            };
            let digest = token_digest(evidence.payload);
            let found = self.tokens.find(&digest).await;
            let found = found.map_err(|e| VerifyError::Unavailable { method: NAME, why: e.0 })?;
            let token = found.filter(|t| t.digest == digest && evidence.now < t.expires_at).ok_or(refused)?;
            let agent = agent_id(evidence.trust_domain, &digest)
                .map_err(|_| VerifyError::Unavailable { method: NAME, why: "the agent has no valid ID".into() })?;
            Ok(Attested::assertion(agent, false).spending(Spend::JoinToken { digest }).with_alias(token.alias))
        })
    }
}

/// Takes no keys.
pub(super) fn make(section: &Section, ports: &VerifierPorts) -> Result<Arc<dyn Verifier>, Vec<SectionProblem>> {
    let unknown = |key: &String| SectionProblem {
        key: "",
        what: format!("`{}` is not known here; `{NAME}` takes no keys", proto_types::id::excerpt(key)),
    };
    let problems: Vec<_> = section.keys().map(unknown).collect();
    if problems.is_empty() { Ok(Arc::new(JoinTokenVerifier::new(ports.join_tokens.clone()))) } else { Err(problems) }
}
