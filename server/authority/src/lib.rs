//! Keys: sealed at rest, loaded into memory, used to sign templates. A key has one use and no export.
//!
//! Decides how a template becomes bytes and refuses to let a certificate out that is not its template. Does not decide
//! what a template says (`server-core::issue`) nor when keys change (`server-core::authority`); it carries that out.

mod ca;
mod config;
mod identity;
mod jwt;
mod kek;
mod key;
mod keyring;
pub mod lint;
mod rekey;
mod rotate;
pub mod seal;
mod snapshot;
mod x509;

pub use config::{AuthorityConfig, ConfigProblem};
pub use identity::Identity;
pub use kek::{FileProblem, Kek, KekError, KekPlace, Pkcs11Kek, TransitKek};
pub use key::openssh_line;
pub use keyring::{Keyring, KeyringError, Realm};
pub use rekey::rekey;
pub use rotate::{Change, Delta};
