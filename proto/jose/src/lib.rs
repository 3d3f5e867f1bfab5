//! proto-jose
