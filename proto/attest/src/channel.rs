//! The two ends of the conversation of one attestation, as the methods see it.
//!
//! The agent speaks first; the server answers with a challenge or with its decision. The transports (the `AttestAgent`
//! stream on either side) implement these traits and bound the size of what they carry and the number of turns.

use proto_types::{Fut, Secret};

/// Most bytes of evidence or challenge in one message.
pub const MAX_EVIDENCE: usize = 64 * 1024;
/// Most challenges in one attestation.
pub const MAX_CHALLENGES: usize = 8;

/// The other end did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    #[error("the other side ended the attestation")]
    Closed,
    #[error("an attestation message has {0} bytes, the limit is {MAX_EVIDENCE}")]
    TooLong(usize),
    #[error("the attestation took more than {MAX_CHALLENGES} challenges")]
    TooManyTurns,
    /// The server's own words, as its transport gave them.
    #[error("{0}")]
    Failed(String),
}

/// The agent's end.
pub trait ProverChannel: Send {
    /// Sends evidence: first the opening payload, then each answer. `Some` is the server's next challenge; `None`
    /// means that the server has decided and there is nothing more to prove.
    fn send(&mut self, evidence: Secret<Vec<u8>>) -> Fut<'_, Result<Option<Vec<u8>>, ChannelError>>;
}

/// The server's end, after the opening payload has arrived.
pub trait VerifierChannel: Send {
    /// Sends a challenge and waits for the answer.
    fn challenge(&mut self, challenge: Vec<u8>) -> Fut<'_, Result<Vec<u8>, ChannelError>>;
}
