//! server-authority
