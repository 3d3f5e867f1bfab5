//! What the agent decides, seen from outside.

mod core_parts {
    mod cache;
    mod expiring;
    mod membership;
}
