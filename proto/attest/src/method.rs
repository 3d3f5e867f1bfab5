//! What a node attestation method is: a name and two ends, each built from its own configuration section.

use crate::channel::{ChannelError, ProverChannel, VerifierChannel};
use crate::join_token::JoinTokens;
use proto_types::{Entropy, Fut, Selector, SpiffeId, Timestamp, TrustDomain};
use std::{fmt, sync::Arc};

/// The table of one `[node_attestor]` or `[[node_attestor]]`, without its `kind`.
pub type Section = toml::Table;

/// Something wrong with a method's section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionProblem {
    /// The key inside the section; empty for the section itself.
    pub key: &'static str,
    /// What is wrong and what to write instead. Never the value of a secret.
    pub what: String,
}

/// Makes the agent's end from its section. All problems at once.
pub type MakeProver = fn(&Section) -> Result<Arc<dyn Prover>, Vec<SectionProblem>>;
/// Makes the server's end from its section and the ports it may ask for.
pub type MakeVerifier = fn(&Section, &VerifierPorts) -> Result<Arc<dyn Verifier>, Vec<SectionProblem>>;

/// One method: its name on the wire and in the configuration, and how its two ends are made.
pub struct Method {
    pub name: &'static str,
    pub prover: MakeProver,
    pub verifier: MakeVerifier,
}

/// The method of this name.
pub fn method(name: &str) -> Option<&'static Method> {
    crate::METHODS.iter().find(|m| m.name == name)
}

/// What a verifier may ask the server for. A method takes what it needs and no more.
#[derive(Clone)]
pub struct VerifierPorts {
    pub join_tokens: Arc<dyn JoinTokens>,
    /// For nonces.
    pub entropy: Arc<dyn Entropy>,
}

/// The agent's end of a method.
pub trait Prover: Send + Sync {
    fn method(&self) -> &'static str;
    /// Whether it may be worth asking again once the node's identity is lost. A spent token proves nothing twice.
    fn can_reattest(&self) -> bool;
    /// Says what this node is, and answers every challenge until the server has decided.
    fn prove<'a>(&'a self, channel: &'a mut dyn ProverChannel) -> Fut<'a, Result<(), ProveError>>;
}

/// Why the agent could not prove what its node is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    #[error("`{method}`: cannot read {what}: {why}")]
    Unreadable { method: &'static str, what: &'static str, why: String },
    #[error("`{method}`: {what} is malformed: {why}")]
    Malformed { method: &'static str, what: &'static str, why: &'static str },
    #[error(
        "`{0}` answers no challenges, yet the server sent one; are server and agent configured for the same method?"
    )]
    UnexpectedChallenge(&'static str),
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// What a verifier is given.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The opening payload: untrusted bytes, at most [`crate::channel::MAX_EVIDENCE`].
    pub payload: &'a [u8],
    pub trust_domain: &'a TrustDomain,
    pub now: Timestamp,
}

/// The server's end of a method.
pub trait Verifier: Send + Sync {
    fn method(&self) -> &'static str;
    fn verify<'a>(
        &'a self,
        evidence: Evidence<'a>,
        channel: &'a mut dyn VerifierChannel,
    ) -> Fut<'a, Result<Attested, VerifyError>>;
}

/// Something that may be used once; the commit that writes the node must consume it, or the node is not written.
#[derive(Clone, PartialEq, Eq)]
pub enum Spend {
    /// SHA-256 of the join token, lowercase hex: the guard `JoinToken` of the commit.
    JoinToken { digest: String },
}

impl fmt::Debug for Spend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Before the commit the digest still names a live token.
            Self::JoinToken { .. } => f.write_str("JoinToken(..)"),
        }
    }
}

/// Evidence that a verifier accepted a node. It exists only as a verifier's answer; the node may be written only
/// together with everything in [`Attested::spends`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    agent: SpiffeId,
    selectors: Vec<Selector>,
    can_reattest: bool,
    spends: Vec<Spend>,
    alias: Option<String>,
}

impl Attested {
    /// For verifiers alone: asserts that the evidence proves `agent`.
    pub(crate) fn assertion(agent: SpiffeId, can_reattest: bool) -> Self {
        Self { agent, selectors: Vec::new(), can_reattest, spends: Vec::new(), alias: None }
    }
    pub(crate) fn spending(mut self, spend: Spend) -> Self {
        self.spends.push(spend);
        self
    }
    pub(crate) fn with_selectors(mut self, selectors: Vec<Selector>) -> Self {
        self.selectors = selectors;
        self
    }
    pub(crate) fn with_alias(mut self, alias: Option<String>) -> Self {
        self.alias = alias;
        self
    }
    /// The agent's SPIFFE ID, `spiffe://<td>/spire/agent/<method>/…`.
    pub fn agent(&self) -> &SpiffeId {
        &self.agent
    }
    /// What is true of the node, beyond its ID.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }
    pub fn can_reattest(&self) -> bool {
        self.can_reattest
    }
    /// What the commit that writes the node must consume.
    pub fn spends(&self) -> &[Spend] {
        &self.spends
    }
    /// A node alias that the agent gets besides its own ID (a SPIFFE ID, as it was registered).
    pub fn alias(&self) -> Option<&str> {
        self.alias.as_deref()
    }
}

/// Why a node was not accepted. What the caller hears never tells an unknown token from a spent one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("`{method}`: the evidence is malformed: {what}")]
    Malformed { method: &'static str, what: &'static str },
    #[error("`{method}`: {why}")]
    Refused { method: &'static str, why: &'static str },
    #[error("`{method}`: cannot be checked now: {why}; try again")]
    Unavailable { method: &'static str, why: String },
    #[error(transparent)]
    Channel(#[from] ChannelError),
}
