//! What the agent decides, seen from outside.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod core_parts {
    mod cache;
    mod expiring;
    mod membership;
}
