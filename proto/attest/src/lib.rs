//! proto-attest
