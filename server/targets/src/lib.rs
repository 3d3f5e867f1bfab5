//! server-targets
