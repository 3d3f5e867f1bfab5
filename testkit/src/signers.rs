//! Signing keys for tests of targets that mint: what the server's own keys are to them, from a seed of one test.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use proto_jose::{Header, KeySet, thumbprint};
use proto_types::{Fut, Timestamp};
use server_core::{
    journal::{Checkpoint, KeyKind, SignedNote, VerifierKey},
    ports::{
        JournalSigner, JwtTemplate, Minter, ProvenKey, PublicKey, SignError, SignedJwt, SshSigner, TreeRoot, X509Svid,
        X509Template,
    },
};

/// An `ssh` and an `oauth` key that live as long as the test.
pub struct TestSigners {
    ssh: Ed25519KeyPair,
    oauth: EcdsaKeyPair,
}

impl Default for TestSigners {
    fn default() -> Self {
        let ssh = Ed25519KeyPair::generate().expect("an Ed25519 key");
        let oauth = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        Self { ssh, oauth }
    }
}

impl TestSigners {
    /// SubjectPublicKeyInfo of the key that signs tokens, DER.
    pub fn oauth_spki(&self) -> Vec<u8> {
        self.oauth.public_key().as_der().expect("a public key").as_ref().to_vec()
    }
    pub fn oauth_kid(&self) -> String {
        thumbprint(&self.oauth_spki()).expect("a thumbprint")
    }
    /// What a relying party reads at `/keys`.
    pub fn keys(&self) -> KeySet {
        KeySet::from_spkis([(self.oauth_kid().as_str(), self.oauth_spki().as_slice())]).expect("a key set")
    }
    fn ssh_spki(&self) -> Vec<u8> {
        self.ssh.public_key().as_der().expect("a public key").as_ref().to_vec()
    }
}

impl SshSigner for TestSigners {
    fn public(&self) -> Option<PublicKey> {
        let spki_der = self.ssh_spki();
        let kid = thumbprint(&spki_der).ok()?;
        Some(PublicKey { kid, spki_der, not_after: Timestamp::from_secs(i64::from(u32::MAX)) })
    }
    fn sign<'a>(&'a self, _kid: &'a str, message: &'a [u8]) -> Fut<'a, Result<[u8; 64], SignError>> {
        let signature = self.ssh.sign(message).as_ref().try_into().expect("64 bytes");
        Box::pin(async move { Ok(signature) })
    }
}

impl Minter for TestSigners {
    fn x509<'a>(&'a self, _: &'a X509Template, _: &'a ProvenKey) -> Fut<'a, Result<X509Svid, SignError>> {
        Box::pin(async { Err(SignError::NoActiveKey("x509")) })
    }
    fn jwt<'a>(&'a self, template: &'a JwtTemplate) -> Fut<'a, Result<SignedJwt, SignError>> {
        Box::pin(async move {
            let mut claims = template.claims.clone();
            claims.insert("exp".into(), template.expires_at.as_secs().into());
            claims.insert("iat".into(), template.issued_at.as_secs().into());
            claims.insert("jti".into(), template.jti.as_str().into());
            if let Some(nbf) = template.not_before {
                claims.insert("nbf".into(), nbf.as_secs().into());
            }
            let sign = |bytes: &[u8]| self.oauth.sign(&SystemRandom::new(), bytes).map(|s| s.as_ref().to_vec());
            let token = proto_jose::sign(&Header::es256(&self.oauth_kid(), template.typ), &claims, sign);
            let token = token.map_err(|_| SignError::Unavailable("P-256".into()))?.into();
            Ok(SignedJwt { token, expires_at: template.expires_at })
        })
    }
}

/// A key that signs checkpoints, as a journal's own or as a witness's; the same for the same seed.
pub struct TestLog {
    pair: Ed25519KeyPair,
    key: VerifierKey,
}

impl TestLog {
    pub fn new(seed: u8, name: &str, kind: KeyKind) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("an Ed25519 key");
        let public = pair.public_key().as_ref().try_into().expect("32 bytes");
        Self { pair, key: VerifierKey::new(name, kind, public).expect("a well-formed name") }
    }
    /// The key of the journal `errand.journal/example.org/k3m9x`.
    pub fn journal() -> Self {
        Self::new(1, "errand.journal/example.org/k3m9x", KeyKind::Log)
    }
    pub fn witness() -> Self {
        Self::new(2, "witness.example.org", KeyKind::Witness)
    }
    /// The signed checkpoint over so many leaves.
    pub fn note(&self, size: u64, root: [u8; 32]) -> SignedNote {
        self.checkpoint(TreeRoot { size, root }).expect("a signature")
    }
    pub fn verifier(&self) -> &VerifierKey {
        &self.key
    }
    /// The note with this witness's signature under it, too.
    pub fn cosign(&self, note: &SignedNote, time: u64) -> SignedNote {
        note.clone().cosign(&self.key, time, |message| self.sign(message)).expect("a signature")
    }
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.pair.sign(message).as_ref().try_into().expect("64 bytes"))
    }
}

impl JournalSigner for TestLog {
    fn key(&self) -> Option<VerifierKey> {
        Some(self.key.clone())
    }
    fn checkpoint(&self, root: TreeRoot) -> Result<SignedNote, SignError> {
        let checkpoint = Checkpoint { origin: self.key.name().into(), size: root.size, root: root.root };
        SignedNote::of(&checkpoint).sign(&self.key, |message| self.sign(message))
    }
}
