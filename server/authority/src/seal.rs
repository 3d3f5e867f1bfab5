//! Sealed blobs: AES-256-GCM under the KEK, bound to the row they stand in.
//!
//! version (1) ‖ KEK id (8) ‖ what the KEK made of it: nonce (12), ciphertext and tag, or the text that a transit engine
//! answers with. Additional data: store id, table and row id, each with its length before it, so that a blob opens in its
//! own row of its own store only.

use crate::kek::{Failed, Kek};
use proto_types::Secret;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 8;

/// Where a blob stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub store_id: &'a str,
    pub table: &'a str,
    pub row: &'a str,
}

impl Place<'_> {
    fn aad(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in [self.store_id, self.table, self.row] {
            out.extend_from_slice(&(field.len() as u64).to_be_bytes());
            out.extend_from_slice(field.as_bytes());
        }
        out
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("a sealed value is cut short; restore the store from a backup")]
    Truncated,
    #[error("a sealed value has version {0}, this program knows 1; run the newer program")]
    Version(u8),
    #[error("sealed with key-encryption key {sealed}, the one given is {given}: name the right one in [authority]")]
    OtherKek { sealed: String, given: String },
    #[error(
        "a sealed value was changed, or stands in a row or store that is not its own, or another key has the name of the \
         key-encryption key that sealed it"
    )]
    Tampered,
    #[error("the key-encryption key could not be used: {0}")]
    Away(String),
}

impl From<Failed> for SealError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotAuthentic => Self::Tampered,
            Failed::Away(why) => Self::Away(why),
        }
    }
}

/// Seals `secret` for its place.
pub async fn seal(kek: &Kek, place: &Place<'_>, secret: &Secret<Vec<u8>>) -> Result<Vec<u8>, SealError> {
    let made = kek.encrypt(&place.aad(), secret).await?;
    Ok([&[VERSION][..], &kek.id(), &made].concat())
}

/// Whether a blob names this key as the one that sealed it.
pub fn is_sealed_with(kek: &Kek, blob: &[u8]) -> bool {
    blob.get(1..HEAD).is_some_and(|id| id == kek.id())
}

/// Opens a blob in its place.
pub async fn open(kek: &Kek, place: &Place<'_>, blob: &[u8]) -> Result<Secret<Vec<u8>>, SealError> {
    match blob.first() {
        None => return Err(SealError::Truncated),
        Some(&VERSION) => {}
        Some(other) => return Err(SealError::Version(*other)),
    }
    let (head, made) = blob.split_at_checked(HEAD).ok_or(SealError::Truncated)?;
    if head[1..] != kek.id() {
        return Err(SealError::OtherKek { sealed: hex::encode(&head[1..]), given: hex::encode(kek.id()) });
    }
    Ok(kek.decrypt(&place.aad(), made).await?)
}
