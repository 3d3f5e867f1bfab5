//! Node attestation: one folder per method, both ends in it.
//!
//! A method is a protocol: the agent's [`Prover`] and the server's [`Verifier`] of one method live together, speak over a
//! channel that the transports supply, and are found by name in [`METHODS`]. Nothing outside a method's folder knows
//! more of it than its name. Decides who a node *is*; whether it may join now (a ban, a spent token) is settled by the
//! commit that writes it, from the evidence that [`Attested`] carries.
//!
//! Adding one: a folder with `prove.rs` and `verify.rs`, a `METHOD` in its `mod.rs`, one line in [`METHODS`].

pub mod channel;
pub mod join_token;
pub mod method;
pub mod x509pop;

pub use channel::{ChannelError, ProverChannel, VerifierChannel};
pub use method::{
    Attested, Evidence, Method, ProveError, Prover, Section, SectionProblem, Spend, Verifier, VerifierPorts,
    VerifyError, method,
};

/// Every method there is.
pub const METHODS: &[Method] = &[join_token::METHOD, x509pop::METHOD];
