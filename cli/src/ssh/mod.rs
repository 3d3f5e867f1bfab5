//! What of OpenSSH's formats the command line needs: the key it makes for a task, the certificate issued for it, and the
//! strings both are made of.
//!
//! Decides nothing about who may use a key: that is `run::endpoints`.

mod key;
pub mod wire;

pub use key::{CERTIFICATE, CertificateError, SshKey};
