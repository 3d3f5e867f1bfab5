//! Keys that verify notes, as one line: `name+hash+base64` (C2SP signed-note).
//!
//! Decides a key's spelling and its id, by which a note says which key signed it.

use crate::tree::sha256;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt, str::FromStr};

/// Longest name, bytes.
const MAX_NAME: usize = 512;

/// What a key signs: the byte before the public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519 over the note's text: a log's own key.
    Log = 0x01,
    /// Ed25519 over a time and the note's text (C2SP tlog-cosignature v1): a witness's key.
    Witness = 0x04,
}

/// What is wrong with a key's line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierKeyError {
    #[error("a verifier key is NAME+HASH+KEY: a name, eight hexadecimal digits and base64, with a plus between them")]
    Form,
    #[error("a key's name is 1 to {MAX_NAME} bytes without spaces or plus signs")]
    Name,
    #[error("the key is of type {0}; Ed25519 (1) and cosignatures (4) are known here")]
    Kind(u8),
    #[error("the key's hash is not that of its name and key; part of the line was changed or lost")]
    Hash,
}

/// A public key with the name it signs under. Instances are always whole: the name is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    public: [u8; 32],
}

impl VerifierKey {
    pub fn new(name: impl Into<String>, kind: KeyKind, public: [u8; 32]) -> Result<Self, VerifierKeyError> {
        let name = name.into();
        if !is_name(&name) {
            return Err(VerifierKeyError::Name);
        }
        Ok(Self { name, kind, public })
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn kind(&self) -> KeyKind {
        self.kind
    }
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }
    /// The first four bytes of SHA-256(name || 0x0A || kind || key).
    pub fn id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = sha256(&[self.name.as_bytes(), b"\n", &[self.kind as u8], &self.public]);
        [a, b, c, d]
    }
}

/// Whether a note's signature may stand under this name.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain)
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[self.kind as u8], self.public.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id()))
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;
    fn from_str(line: &str) -> Result<Self, VerifierKeyError> {
        let mut parts = line.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VerifierKeyError::Form);
        };
        let key = STANDARD.decode(key).map_err(|_| VerifierKeyError::Form)?;
        let (kind, public) = key.split_first().ok_or(VerifierKeyError::Form)?;
        let kind = match kind {
            0x01 => KeyKind::Log,
            0x04 => KeyKind::Witness,
            other => return Err(VerifierKeyError::Kind(*other)),
        };
        let public = public.try_into().map_err(|_| VerifierKeyError::Form)?;
        let key = Self::new(name, kind, public)?;
        if hash == hex::encode(key.id()) { Ok(key) } else { Err(VerifierKeyError::Hash) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that others publish.
    const KNOWN: [&str; 2] = [
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ];

    #[test]
    fn a_key_reads_back_from_its_line() {
        for kind in [KeyKind::Log, KeyKind::Witness] {
            let key = VerifierKey::new("errand.journal/example.org/k3m9x", kind, [7; 32]).unwrap();
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn lines_that_were_changed_or_are_of_another_type_are_refused_and_their_twins_are_not() {
        let key = VerifierKey::new("log.example.org", KeyKind::Log, [7; 32]).unwrap();
        let line = key.to_string();
        let refuse = |line: String, why: VerifierKeyError| assert_eq!(line.parse::<VerifierKey>(), Err(why), "{line}");
        refuse(line.replace("log.", "logs."), VerifierKeyError::Hash);
        refuse(line.replace("AQcH", "AQcI"), VerifierKeyError::Hash);
        refuse(line.replace("AQcH", "AgcH"), VerifierKeyError::Kind(2));
        refuse(line.replace("AQcH", "AQ"), VerifierKeyError::Form);
        refuse(line.replace('+', "-"), VerifierKeyError::Form);
        refuse(format!("{line}\n"), VerifierKeyError::Form);
        refuse(String::new(), VerifierKeyError::Form);
        assert_eq!(line.parse(), Ok(key));
        assert_eq!(VerifierKey::new("a b", KeyKind::Log, [7; 32]), Err(VerifierKeyError::Name));
        assert_eq!(VerifierKey::new("", KeyKind::Log, [7; 32]), Err(VerifierKeyError::Name));
    }

    #[test]
    fn keys_of_other_logs_are_read_and_have_the_ids_those_say() {
        for line in KNOWN {
            assert_eq!(line.parse::<VerifierKey>().unwrap().to_string(), line);
        }
    }
}
