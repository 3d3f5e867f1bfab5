//! `join_token`: a one-time secret that an operator hands to one node.
//!
//! Evidence: the token's bytes, as the only message. The server keeps the SHA-256 of a token and never the token; the
//! agent's ID is made of that digest, so that no token stands in an ID, a log or the journal. A token is spent by the
//! commit that writes the node ([`crate::Spend::JoinToken`]), and so by one node only, whatever races or crashes.

mod prove;
mod verify;

pub use prove::JoinTokenProver;
pub use verify::{JoinTokenVerifier, JoinTokens, TokenLookupError};

use crate::method::Method;
use aws_lc_rs::digest;
use proto_types::{Entropy, IdError, Secret, SpiffeId, TrustDomain, id::parse_spiffe_id};

pub const NAME: &str = "join_token";
pub const METHOD: Method = Method { name: NAME, prover: prove::make, verifier: verify::make };

/// Longest token, bytes.
pub const MAX_TOKEN: usize = 256;

/// A new token: 32 hexadecimal characters, 128 random bits.
pub fn generate(entropy: &dyn Entropy) -> Secret<String> {
    let mut random = [0u8; 16];
    entropy.fill(&mut random);
    Secret::new(hex::encode(random))
}

/// SHA-256 of a token, lowercase hex: what the server keeps of it.
pub fn token_digest(token: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, token))
}

/// The agent that a token makes: `spiffe://<td>/spire/agent/join_token/<first 32 characters of the digest>`.
pub fn agent_id(td: &TrustDomain, token_digest: &str) -> Result<SpiffeId, IdError> {
    // 128 bits of SHA-256: no two tokens meet, and the part says nothing of the token.
    let part = token_digest.get(..32).unwrap_or(token_digest);
    parse_spiffe_id(&format!("spiffe://{td}/spire/agent/{NAME}/{part}"))
}

/// Whether `token` may be a token at all: 1 to 256 printable ASCII characters without spaces.
fn is_token(token: &[u8]) -> bool {
    (1..=MAX_TOKEN).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic)
}
