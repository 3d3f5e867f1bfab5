//! The witness, with real processes: each group of refusals has an accepted neighbour. Numbers such as G02 are the
//! catalogue's.
//!
//! Tests that need a second uid or a namespace run those parts only where the machine allows it, and say when not.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod parts {
    mod chain;
    mod corpus;
    mod measure;
    mod namespaces;
    mod pin;
    mod roles;
    mod support;
    mod unix;
}
