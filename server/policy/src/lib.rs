//! server-policy
