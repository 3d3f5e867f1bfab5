//! Signed notes (C2SP signed-note) that hold a checkpoint, and witnesses' cosignatures on them (tlog-cosignature v1).
//!
//! Decides what is read as a note and whether a key signed it. Signatures of keys that nobody asked about are carried
//! along and mean nothing.

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    key::{KeyKind, VerifierKey, is_name},
};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt, str::FromStr};

/// Longest note, bytes.
pub const MAX_NOTE: usize = 64 * 1024;
/// Most signatures under one note.
const MAX_SIGNATURES: usize = 64;

/// What is wrong with a note, or with a signature under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("it is longer than {MAX_NOTE} bytes or has more than {MAX_SIGNATURES} signatures")]
    TooLong,
    #[error("it is no signed note: lines of text, an empty line, then lines `\u{2014} NAME SIGNATURE` are wanted")]
    Form,
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("`{0}` did not sign it; was another key meant, or another log?")]
    Unsigned(String),
    #[error("the signature of `{0}` under it is not of this text: it was changed after it was signed")]
    Forged(String),
    #[error("it is a checkpoint of `{found}`, and the key is that of `{wanted}`")]
    Origin { found: String, wanted: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// A checkpoint with the signatures under it. That it could be read says nothing about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    /// Every line ended.
    text: String,
    signatures: Vec<Signature>,
}

/// Evidence that a key signed a checkpoint. Only [`SignedNote::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    checkpoint: Checkpoint,
    /// When the witness says it saw it, seconds since the Unix epoch; a log's own signature has no time.
    time: Option<u64>,
}

impl Verified {
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
    pub fn time(&self) -> Option<u64> {
        self.time
    }
}

impl SignedNote {
    /// A note that nobody has signed yet.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        Self { text: checkpoint.to_string(), signatures: Vec::new() }
    }

    /// Signs as the log itself: `sign` is given the bytes and answers an Ed25519 signature.
    pub fn sign<E>(mut self, key: &VerifierKey, sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>) -> Result<Self, E> {
        let bytes = sign(self.text.as_bytes())?.to_vec();
        self.signatures.push(Signature { name: key.name().into(), id: key.id(), bytes });
        Ok(self)
    }

    /// Signs as a witness that saw it at `time`, seconds since the Unix epoch.
    pub fn cosign<E>(
        mut self,
        key: &VerifierKey,
        time: u64,
        sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>,
    ) -> Result<Self, E> {
        let signature = sign(&cosigned(time, &self.text))?;
        let bytes = [time.to_be_bytes().as_slice(), &signature].concat();
        self.signatures.push(Signature { name: key.name().into(), id: key.id(), bytes });
        Ok(self)
    }

    /// What the text says, whoever signed it.
    pub fn claims(&self) -> Result<Checkpoint, NoteError> {
        Ok(self.text.parse()?)
    }

    /// Adds the signatures of another copy of the same note that this one lacks. `false` when it is another note.
    pub fn join(&mut self, other: Self) -> bool {
        if other.text != self.text || self.signatures.len() + other.signatures.len() > MAX_SIGNATURES {
            return false;
        }
        for signature in other.signatures {
            if !self.signatures.contains(&signature) {
                self.signatures.push(signature);
            }
        }
        true
    }

    /// Whether `key` signed this. For a log's own key the checkpoint must be of the log with the key's name.
    pub fn verify(&self, key: &VerifierKey) -> Result<Verified, NoteError> {
        let (name, id) = (key.name(), key.id());
        let mut signed = None;
        for signature in self.signatures.iter().filter(|s| s.name == name && s.id == id) {
            let time = self.check(key, signature).ok_or_else(|| NoteError::Forged(name.into()))?;
            signed = signed.max(Some(time));
        }
        let time = signed.ok_or_else(|| NoteError::Unsigned(name.into()))?;
        let checkpoint = self.claims()?;
        if key.kind() == KeyKind::Log && checkpoint.origin != name {
            return Err(NoteError::Origin { found: checkpoint.origin, wanted: name.into() });
        }
        Ok(Verified { checkpoint, time })
    }

    /// The time of a signature that holds.
    fn check(&self, key: &VerifierKey, signature: &Signature) -> Option<Option<u64>> {
        let verifies = |message: &[u8], signature: &[u8]| {
            UnparsedPublicKey::new(&ED25519, key.public()).verify(message, signature).is_ok()
        };
        match key.kind() {
            KeyKind::Log => verifies(self.text.as_bytes(), &signature.bytes).then_some(None),
            KeyKind::Witness => {
                let (time, signature) = signature.bytes.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                verifies(&cosigned(time, &self.text), signature).then_some(Some(time))
            }
        }
    }
}

/// What a witness signs.
fn cosigned(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            writeln!(f, "\u{2014} {name} {}", STANDARD.encode([id.as_slice(), bytes].concat()))?;
        }
        Ok(())
    }
}

impl FromStr for SignedNote {
    type Err = NoteError;
    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        let plain = note.chars().all(|c| c == '\n' || !c.is_control());
        // The last empty line parts text and signatures.
        let at = note.rfind("\n\n").filter(|_| plain && note.ends_with('\n')).ok_or(NoteError::Form)?;
        let (text, lines) = (&note[..at + 1], &note[at + 2..]);
        if lines.lines().count() > MAX_SIGNATURES {
            return Err(NoteError::TooLong);
        }
        let signatures = lines.lines().map(signature).collect::<Option<Vec<_>>>();
        let signatures = signatures.filter(|s| !s.is_empty()).ok_or(NoteError::Form)?;
        Ok(Self { text: text.into(), signatures })
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(bytes).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    (is_name(name) && !bytes.is_empty()).then(|| Signature { name: name.into(), id: *id, bytes: bytes.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    fn pair(seed: u8, name: &str, kind: KeyKind) -> (Ed25519KeyPair, VerifierKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = VerifierKey::new(name, kind, pair.public_key().as_ref().try_into().unwrap()).unwrap();
        (pair, key)
    }

    fn sign(pair: &Ed25519KeyPair) -> impl FnOnce(&[u8]) -> Result<[u8; 64], std::convert::Infallible> {
        |message| Ok(pair.sign(message).as_ref().try_into().unwrap())
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "log.example.org".into(), size: 12, root: [5; 32] }
    }

    fn signed() -> (SignedNote, VerifierKey) {
        let (pair, key) = pair(1, "log.example.org", KeyKind::Log);
        (SignedNote::of(&checkpoint()).sign(&key, sign(&pair)).unwrap(), key)
    }

    #[test]
    fn a_signed_checkpoint_reads_back_and_verifies_with_its_key() {
        let (note, key) = signed();
        let again: SignedNote = note.to_string().parse().unwrap();
        assert_eq!(again, note);
        let verified = again.verify(&key).unwrap();
        assert_eq!((verified.checkpoint(), verified.time()), (&checkpoint(), None));
    }

    #[test]
    fn a_changed_text_another_key_and_another_log_are_told_apart() {
        let (note, key) = signed();
        let changed: SignedNote = note.to_string().replacen("12", "13", 1).parse().unwrap();
        assert_eq!(changed.verify(&key), Err(NoteError::Forged("log.example.org".into())));
        let (_, other) = pair(2, "log.example.org", KeyKind::Log);
        assert_eq!(note.verify(&other), Err(NoteError::Unsigned("log.example.org".into())));
        let (pair, foreign) = pair(3, "elsewhere.example.org", KeyKind::Log);
        let wanted = "elsewhere.example.org".to_string();
        let note = SignedNote::of(&checkpoint()).sign(&foreign, sign(&pair)).unwrap();
        assert_eq!(note.verify(&foreign), Err(NoteError::Origin { found: "log.example.org".into(), wanted }));
    }

    #[test]
    fn a_witness_signs_with_a_time_and_its_signature_is_not_a_log_s() {
        let (mut note, key) = signed();
        let (pair, witness) = pair(9, "witness.example.org", KeyKind::Witness);
        let copy = note.clone().cosign(&witness, 1_795_000_000, sign(&pair)).unwrap();
        assert_eq!(note.verify(&witness), Err(NoteError::Unsigned("witness.example.org".into())));
        assert!(note.join(copy.clone()) && note.join(copy));
        let read: SignedNote = note.to_string().parse().unwrap();
        assert_eq!(read.verify(&witness).unwrap().time(), Some(1_795_000_000));
        assert_eq!(read.verify(&key).unwrap().time(), None);
        assert_eq!(read.to_string().lines().count(), 6, "joined twice, there once");
        let as_log = VerifierKey::new(witness.name(), KeyKind::Log, *witness.public()).unwrap();
        assert!(read.verify(&as_log).is_err());
        let other = Checkpoint { size: 11, ..checkpoint() };
        assert!(!note.join(SignedNote::of(&other)));
    }

    #[test]
    fn every_byte_of_a_note_counts() {
        let (note, key) = signed();
        let good = note.to_string();
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            let read = String::from_utf8(bytes).ok().and_then(|text| text.parse::<SignedNote>().ok());
            assert!(read.is_none_or(|n| n.verify(&key).is_err()), "byte {at}");
        }
    }

    #[test]
    fn a_note_that_another_implementation_signed_verifies() {
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann \
                    x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        let verify = |note: &str| note.parse::<SignedNote>().unwrap().verify(&key);
        // Its signature holds; it is no checkpoint.
        assert_eq!(verify(note), Err(NoteError::Checkpoint(CheckpointError)));
        assert_eq!(verify(&note.replace("know", "knew")), Err(NoteError::Forged("PeterNeumann".into())));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let good = signed().0.to_string();
        for bad in [
            good.replace("\n\n", "\n"),
            good.trim_end().into(),
            good.replace('\u{2014}', "-"),
            good.replace("log.example.org\n", "log.example.org\r\n"),
            good.split_once("\u{2014}").unwrap().0.into(),
            "x".repeat(MAX_NOTE + 1),
        ] {
            assert!(bad.parse::<SignedNote>().is_err(), "{bad:?}");
        }
    }
}
