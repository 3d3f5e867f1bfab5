//! JWTs, JWKs and SPIFFE bundle documents: one strict verifier, one fast signer.
//!
//! `josekit` keeps the JOSE header, JWK and JWS code; `aws-lc-rs` computes every signature, behind josekit's own
//! traits. No type of either appears in this crate's API.
//!
//! Decides what a well-formed token is and whether its signature holds. Does not decide what a token may do, which
//! keys are trusted for whom, or what a token of ours says (that is `server-core::issue`).

mod alg;
mod b64;
mod bundle;
mod expect;
mod json;
mod jwk;
mod jws;
mod key;
mod keyset;
mod sign;
mod verify;

pub use alg::Alg;
pub use bundle::{BundleParts, spiffe_bundle_json};
pub use expect::Expect;
pub use json::{JsonError, parse_object};
pub use jwk::{JwkError, KeyPurpose, jwk_from_spki, thumbprint};
pub use jws::{MAX_TOKEN, VerifiedJws, verify_jws};
pub use key::VerificationKey;
pub use keyset::{JwksUses, KeySet, KeySetError, MAX_JWKS, MAX_KEYS};
pub use sign::{Header, sign};
pub use verify::{JwtError, VerifiedJwt, claimed_trust_domain, verify_jwt};
