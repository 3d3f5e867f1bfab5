//! An Ed25519 key of a task's own, and the certificates issued for it.
//!
//! The private half is made here and leaves only through [`SshKey::private_file`], for a sandbox in which no agent can be
//! reached. Whether a certificate is good is for the host that is shown it; here it must be for this key, or it could
//! not be used.

use super::wire::{Reader, put_string, put_u32};
use aws_lc_rs::{
    error::KeyRejected,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proto_types::{Entropy, Secret};
use zeroize::Zeroize;

const ALGORITHM: &str = "ssh-ed25519";
/// The type of a certificate for such a key (OpenSSH's PROTOCOL.certkeys).
pub const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com";
/// Longest certificate, bytes: 256 principals and every option fit.
const MAX_CERTIFICATE: usize = 64 * 1024;

/// A private key that is wiped when dropped.
pub struct SshKey {
    pair: Ed25519KeyPair,
    seed: Secret<[u8; 32]>,
}

/// A certificate that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the server's certificate is not one line of an OpenSSH certificate for an Ed25519 key")]
    Malformed,
    #[error("the server's certificate is for another key than the one it was asked for")]
    AnotherKey,
}

impl SshKey {
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, KeyRejected> {
        let mut random = [0u8; 32];
        entropy.fill(&mut random);
        let seed = Secret::new(random);
        random.zeroize();
        Ok(Self { pair: Ed25519KeyPair::from_seed_unchecked(seed.expose())?, seed })
    }

    fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, ALGORITHM.as_bytes());
        put_string(&mut blob, self.public());
        blob
    }

    /// As in an `authorized_keys` file, without a comment or a newline.
    pub fn public_line(&self) -> String {
        format!("{ALGORITHM} {}", STANDARD.encode(self.blob()))
    }

    /// The signature blob of RFC 8709, section 6.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, ALGORITHM.as_bytes());
        put_string(&mut blob, self.pair.sign(message).as_ref());
        blob
    }

    /// The bytes of a certificate line that is for this key.
    pub fn certificate(&self, line: &str) -> Result<Vec<u8>, CertificateError> {
        let (name, rest) = line.trim().split_once(' ').ok_or(CertificateError::Malformed)?;
        let text = rest.split(' ').next().unwrap_or_default();
        if name != CERTIFICATE || text.len() > MAX_CERTIFICATE * 4 / 3 {
            return Err(CertificateError::Malformed);
        }
        let blob = STANDARD.decode(text).map_err(|_| CertificateError::Malformed)?;
        let mut reader = Reader::new(&blob);
        let named = reader.string() == Some(CERTIFICATE.as_bytes());
        let _nonce = reader.string();
        match reader.string() {
            Some(key) if named && key == self.public() => Ok(blob),
            Some(_) if named => Err(CertificateError::AnotherKey),
            _ => Err(CertificateError::Malformed),
        }
    }

    /// What `ssh -i` reads (OpenSSH's PROTOCOL.key), not encrypted.
    pub fn private_file(&self, comment: &str) -> Secret<String> {
        // Large enough that nothing private is left behind where a buffer grew.
        let mut body = Vec::with_capacity(1024);
        body.extend(b"openssh-key-v1\0");
        put_string(&mut body, b"none");
        put_string(&mut body, b"none");
        put_string(&mut body, b"");
        put_u32(&mut body, 1);
        put_string(&mut body, &self.blob());
        put_string(&mut body, self.private_part(comment).expose());
        let body = Secret::new(body);
        let text = Secret::new(STANDARD.encode(body.expose()));
        let mut file = String::with_capacity(2048);
        file.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
        for line in text.expose().as_bytes().chunks(70) {
            file.push_str(&String::from_utf8_lossy(line));
            file.push('\n');
        }
        file.push_str("-----END OPENSSH PRIVATE KEY-----\n");
        file.into()
    }

    fn private_part(&self, comment: &str) -> Secret<Vec<u8>> {
        // Two equal numbers say that a passphrase was right; there is none here, so any number will do.
        let mut part = Vec::with_capacity(512);
        part.extend(self.public()[..4].repeat(2));
        put_string(&mut part, ALGORITHM.as_bytes());
        put_string(&mut part, self.public());
        let pair = Secret::new([&self.seed.expose()[..], self.public()].concat());
        put_string(&mut part, pair.expose());
        put_string(&mut part, comment.as_bytes());
        part.extend((1u8..).take(part.len().wrapping_neg() % 8));
        Secret::new(part)
    }
}

impl std::fmt::Debug for SshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshKey({})", self.public_line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_types::OsEntropy;

    /// As far as a reader of the key looks.
    fn certificate(name: &str, key: &[u8]) -> String {
        let mut blob = Vec::new();
        put_string(&mut blob, name.as_bytes());
        put_string(&mut blob, b"nonce");
        put_string(&mut blob, key);
        format!("{name} {}", STANDARD.encode(blob))
    }

    #[test]
    fn a_certificate_is_for_this_key_or_not_taken() {
        let (mine, other) = (SshKey::generate(&OsEntropy).unwrap(), SshKey::generate(&OsEntropy).unwrap());
        let line = certificate(CERTIFICATE, mine.public());
        let blob = mine.certificate(&line).unwrap();
        assert_eq!(mine.certificate(&format!("{line} a comment\n")).unwrap(), blob);
        assert_eq!(other.certificate(&line), Err(CertificateError::AnotherKey));
        let host = certificate("ssh-rsa-cert-v01@openssh.com", mine.public());
        for bad in ["", CERTIFICATE, &line[..60], &line.replace("ssh", "ssj"), &host, &format!("{CERTIFICATE} !!")] {
            assert_eq!(mine.certificate(bad), Err(CertificateError::Malformed), "{bad}");
        }
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let key = SshKey::generate(&OsEntropy).unwrap();
        let seed = STANDARD.encode(key.seed.expose());
        assert!(!format!("{key:?}").contains(&seed[..20]));
    }
}
