//! X509-SVIDs on a connection: reading one, and the one verifier that every TLS end of the house uses.
//!
//! Decides whether a certificate is a valid X509-SVID (X509-SVID section 5) of the trust domain, or of exactly the
//! member, that the end expects. Host names decide nothing: a SPIFFE peer is who its SVID says, wherever it was found.
//! What the peer may do is asked on every call, elsewhere.

mod signing;
mod svid;
mod verifier;

pub use signing::SigningError;
pub use svid::{Svid, SvidError};
pub use verifier::{Anchors, ChainError, DangerAnyone, Expected, HouseTime, SvidVerifier};
