//! server-store
