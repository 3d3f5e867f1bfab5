//! Private keys by use: P-256 for certificates and tokens, Ed25519 for the journal (what C2SP signed notes are signed
//! with) and for SSH certificates. A key signs and tells its public half; there is no way to take it out but sealed.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    },
};
use proto_types::{KeyUse, Secret};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};

/// The crypto library refused; it says no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the crypto library refused the key")]
pub struct KeyRefused;

/// A private key that may be used as its use says.
pub(crate) enum PrivateKey {
    /// ECDSA P-256, signatures in DER: certificates.
    Ca(CaKey),
    /// ECDSA P-256, signatures in P1363 form: tokens.
    Jwt(EcdsaKeyPair),
    Journal(Ed25519KeyPair),
    Ssh(Ed25519KeyPair),
}

/// A fresh key as PKCS#8 v1, DER.
pub(crate) fn generate(key_use: KeyUse) -> Result<Secret<Vec<u8>>, KeyRefused> {
    let document = match key_use {
        KeyUse::X509 | KeyUse::JwtSvid | KeyUse::Oauth => {
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).and_then(|k| k.to_pkcs8v1())
        }
        KeyUse::Journal | KeyUse::Ssh => Ed25519KeyPair::generate().and_then(|k| k.to_pkcs8v1()),
    };
    document.map(|d| Secret::new(d.as_ref().to_vec())).map_err(|_| KeyRefused)
}

impl PrivateKey {
    pub(crate) fn load(key_use: KeyUse, pkcs8: &Secret<Vec<u8>>) -> Result<Self, KeyRefused> {
        let der = pkcs8.expose();
        let key = match key_use {
            KeyUse::X509 => CaKey::load(der).map(Self::Ca),
            KeyUse::JwtSvid | KeyUse::Oauth => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Self::Jwt).map_err(|_| KeyRefused)
            }
            KeyUse::Journal => Ed25519KeyPair::from_pkcs8(der).map(Self::Journal).map_err(|_| KeyRefused),
            KeyUse::Ssh => Ed25519KeyPair::from_pkcs8(der).map(Self::Ssh).map_err(|_| KeyRefused),
        };
        key.map_err(|_| KeyRefused)
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> Result<Vec<u8>, KeyRefused> {
        let der = match self {
            Self::Ca(key) => key.pair.public_key().as_der(),
            Self::Jwt(key) => key.public_key().as_der(),
            Self::Journal(key) | Self::Ssh(key) => key.public_key().as_der(),
        };
        der.map(|d| d.as_ref().to_vec()).map_err(|_| KeyRefused)
    }
}

/// The 32 bytes at the end of an Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4), which has no other form.
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 key (SubjectPublicKeyInfo, DER) as one line of OpenSSH, without its end; `None` for another key.
pub fn openssh_line(spki_der: &[u8]) -> Option<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let raw: &[u8; 32] = spki_der.strip_prefix(&ED25519_SPKI)?.try_into().ok()?;
    let mut blob = Vec::with_capacity(51);
    for part in [b"ssh-ed25519".as_slice(), raw] {
        blob.extend((part.len() as u32).to_be_bytes());
        blob.extend(part);
    }
    Some(format!("ssh-ed25519 {}", STANDARD.encode(blob)))
}

/// A signature in P1363 form, 64 bytes.
pub(crate) fn sign_es256(key: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>, KeyRefused> {
    key.sign(&SystemRandom::new(), message).map(|s| s.as_ref().to_vec()).map_err(|_| KeyRefused)
}

/// A CA's key behind rcgen's signing seam.
pub(crate) struct CaKey {
    pair: EcdsaKeyPair,
}

impl CaKey {
    pub(crate) fn load(pkcs8: &[u8]) -> Result<Self, KeyRefused> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map_err(|_| KeyRefused)?;
        Ok(Self { pair })
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}
