//! Sealed blobs: AES-256-GCM under the KEK, bound to the row they stand in.
//!
//! version (1) ‖ KEK id (8) ‖ nonce (12) ‖ ciphertext and tag. Additional data: store id, table and row id, each with
//! its length before it, so that a blob opens in its own row of its own store only.

use crate::kek::Kek;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use proto_types::Secret;
use zeroize::Zeroize;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 8 + NONCE_LEN;

/// Where a blob stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub store_id: &'a str,
    pub table: &'a str,
    pub row: &'a str,
}

impl Place<'_> {
    fn aad(&self) -> Aad<Vec<u8>> {
        let mut out = Vec::new();
        for field in [self.store_id, self.table, self.row] {
            out.extend_from_slice(&(field.len() as u64).to_be_bytes());
            out.extend_from_slice(field.as_bytes());
        }
        Aad::from(out)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("a sealed value is cut short; restore the store from a backup")]
    Truncated,
    #[error("a sealed value has version {0}, this program knows 1; run the newer program")]
    Version(u8),
    #[error(
        "sealed with key-encryption key {sealed}, the one given is {given}: set authority.kek_file to the right file"
    )]
    OtherKek { sealed: String, given: String },
    #[error("a sealed value was changed, or stands in a row or store that is not its own")]
    Tampered,
    #[error("the crypto library cannot encrypt now")]
    Unavailable,
}

/// Seals `secret` for its place.
pub fn seal(kek: &Kek, place: &Place<'_>, secret: &Secret<Vec<u8>>) -> Result<Vec<u8>, SealError> {
    let key = cipher(kek)?;
    let mut text = secret.expose().clone();
    let sealed = key.seal_in_place_separate_tag(place.aad(), &mut text);
    let Ok((nonce, tag)) = sealed else {
        text.zeroize();
        return Err(SealError::Unavailable);
    };
    Ok([&[VERSION][..], &kek.id(), nonce.as_ref(), &text, tag.as_ref()].concat())
}

/// Opens a blob in its place.
pub fn open(kek: &Kek, place: &Place<'_>, blob: &[u8]) -> Result<Secret<Vec<u8>>, SealError> {
    match blob.first() {
        None => return Err(SealError::Truncated),
        Some(&VERSION) => {}
        Some(other) => return Err(SealError::Version(*other)),
    }
    let (head, text) = blob.split_at_checked(HEAD).ok_or(SealError::Truncated)?;
    if head[1..9] != kek.id() {
        return Err(SealError::OtherKek { sealed: hex::encode(&head[1..9]), given: hex::encode(kek.id()) });
    }
    let nonce = Nonce::try_assume_unique_for_key(&head[9..]).map_err(|_| SealError::Truncated)?;
    let mut text = text.to_vec();
    match cipher(kek)?.open_in_place(nonce, place.aad(), &mut text) {
        Ok(plain) => {
            let len = plain.len();
            text.truncate(len);
            Ok(Secret::new(text))
        }
        Err(_) => {
            text.zeroize();
            Err(SealError::Tampered)
        }
    }
}

fn cipher(kek: &Kek) -> Result<RandomizedNonceKey, SealError> {
    RandomizedNonceKey::new(&AES_256_GCM, kek.bytes()).map_err(|_| SealError::Unavailable)
}
