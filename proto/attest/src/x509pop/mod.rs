//! `x509pop`: a node proves possession of the key of a certificate that an authority of the operator's signed.
//!
//! Evidence: the certificate chain, leaf first. The server answers with a nonce; the node adds one of its own and signs both.
//! The messages are JSON as SPIRE's method of this name has them, so that either end works with the other's.
//!
//! The agent is named by its certificate (SHA-1, as SPIRE does; a name, not a check: what was verified is the certificate).
//! It may attest again as long as the certificate holds.

mod chain;
mod message;
mod prove;
mod signature;
mod verify;

pub use prove::X509PopProver;
pub use verify::X509PopVerifier;

use crate::method::Method;
use aws_lc_rs::digest;

pub const NAME: &str = "x509pop";
pub const METHOD: Method = Method { name: NAME, prover: prove::make, verifier: verify::make };

/// Most certificates in a chain: the leaf and four intermediates.
pub const MAX_CHAIN: usize = 5;
/// Longest certificate, bytes.
pub const MAX_CERTIFICATE: usize = 10 * 1024;
/// Bytes of either nonce.
pub const NONCE: usize = 32;

/// How a certificate is called in IDs and selectors: SHA-1 of its DER, lowercase hex.
fn fingerprint(der: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der))
}
