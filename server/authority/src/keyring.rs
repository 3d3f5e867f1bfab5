//! The keyring: signs and publishes from one immutable snapshot, without a lock; a change swaps the snapshot.

use crate::{
    kek::Kek,
    rotate::Delta,
    seal::{Place, SealError},
    snapshot::{Opened, Rows, Snapshot, open_all},
    x509,
};
use arc_swap::ArcSwap;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proto_types::{Entropy, Epoch, Fut, KeyUse, Timestamp, TrustDomain};
use server_core::{
    authority::AuthorityView,
    journal::{Checkpoint, KeyKind, SignedNote, VerifierKey, origin},
    ports::{
        Authorities, AuthorityRow, Bundle, JournalSigner, JwtTemplate, Minter, ProvenKey, PublicKey, SignError,
        SignedJwt, SshSigner, TreeRoot, X509Svid, X509Template,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// Which house the keys are for.
#[derive(Clone, Debug)]
pub struct Realm {
    pub store_id: String,
    pub trust_domain: TrustDomain,
    /// Published in the bundle.
    pub refresh_hint: Duration,
}

impl Realm {
    pub(crate) fn place<'a>(&'a self, row: &'a str) -> Place<'a> {
        Place { store_id: &self.store_id, table: "authority", row }
    }
}

/// Why the keys cannot be used or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("signing key {id}: {source}")]
    Sealed { id: String, source: SealError },
    #[error("signing key {id}: its id, public and private half do not belong together; restore the store")]
    Mismatch { id: String },
    #[error(transparent)]
    Ca(#[from] crate::ca::CaError),
    #[error("a new {0} key could not be made")]
    Generate(&'static str),
    #[error("there is no signing key {id}; see `errand authority`")]
    NoSuchKey { id: String },
    #[error("signing key {id} is not prepared: only a prepared key can be activated")]
    NotPrepared { id: String },
    #[error("signing key {id} signs now: activate another one first")]
    Signs { id: String },
}

/// All signing keys of one server.
pub struct Keyring {
    pub(crate) realm: Realm,
    pub(crate) kek: Kek,
    pub(crate) entropy: Arc<dyn Entropy>,
    current: ArcSwap<Snapshot>,
    /// Changes are rare and go one after another; signing never waits for them.
    changing: Mutex<()>,
}

impl Keyring {
    /// Opens stored keys. `epoch`: how often they were changed when they were read. It is the bundle's sequence: the same in
    /// every server, and it never goes back.
    pub async fn open(
        rows: Vec<AuthorityRow>,
        kek: Kek,
        realm: Realm,
        entropy: Arc<dyn Entropy>,
        epoch: Epoch,
    ) -> Result<Self, KeyringError> {
        let rows: Rows = rows.into_iter().map(|r| (r.id.clone(), r)).collect();
        let opened = open_all(&rows, &Opened::new(), &kek, &realm).await?;
        let current = ArcSwap::from_pointee(Snapshot::build(rows, opened, &realm, epoch.0)?);
        Ok(Self { realm, kek, entropy, current, changing: Mutex::new(()) })
    }

    /// Takes a change into use once it is durable, in the epoch that it began. On an error the keys stay as they were.
    pub async fn apply(&self, delta: &Delta, epoch: Epoch) -> Result<(), KeyringError> {
        let _one = self.changing.lock().await;
        let now = self.snapshot();
        let mut rows = now.rows.clone();
        for row in &delta.put {
            rows.insert(row.id.clone(), row.clone());
        }
        for id in &delta.drop {
            rows.remove(id);
        }
        self.build(rows, now.bundle.sequence.max(epoch.0)).await
    }

    /// Takes the keys as they are stored: another server changed them.
    pub async fn replace(&self, rows: Vec<AuthorityRow>, epoch: Epoch) -> Result<(), KeyringError> {
        let _one = self.changing.lock().await;
        // Read before what is in use by now was made.
        if epoch.0 < self.snapshot().bundle.sequence {
            return Ok(());
        }
        self.build(rows.into_iter().map(|r| (r.id.clone(), r)).collect(), epoch.0).await
    }

    async fn build(&self, rows: Rows, sequence: u64) -> Result<(), KeyringError> {
        let opened = open_all(&rows, &self.snapshot().opened, &self.kek, &self.realm).await?;
        let next = Snapshot::build(rows, opened, &self.realm, sequence)?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// What `server-core::authority::plan` wants to see.
    pub fn views(&self) -> Vec<AuthorityView> {
        let view = |r: &AuthorityRow| AuthorityView {
            id: r.id.clone(),
            key_use: r.key_use,
            state: r.state,
            created_at: r.created_at,
            not_after: r.not_after,
        };
        self.snapshot().rows.values().map(view).collect()
    }

    /// Whether a SubjectPublicKeyInfo (DER) is one of our own signing keys: such a key is never certified.
    pub fn is_own_key(&self, spki_der: &[u8]) -> bool {
        self.current.load().public.iter().any(|(_, key)| key.spki_der == spki_der)
    }

    /// A journal key as those who verify write it, under the journal's name.
    fn journal_verifier(&self, key: &Ed25519KeyPair) -> Option<VerifierKey> {
        let name = origin(self.realm.trust_domain.as_str(), &self.realm.store_id);
        let public = key.public_key().as_ref().try_into().ok()?;
        VerifierKey::new(name, KeyKind::Log, public).ok()
    }

    pub(crate) fn sign_x509(&self, template: &X509Template, key: &ProvenKey) -> Result<X509Svid, SignError> {
        let keys = self.current.load();
        let ca = keys.x509.as_ref().ok_or(SignError::NoActiveKey("x509"))?;
        if *template.spiffe_id.trust_domain() != self.realm.trust_domain {
            return Err(SignError::Refused("the identity belongs to another trust domain".into()));
        }
        if self.is_own_key(key.spki_der()) {
            return Err(SignError::Refused("the key is one of the server's own".into()));
        }
        x509::sign(ca, template, key, self.entropy.as_ref())
    }

    pub(crate) fn sign_jwt(&self, template: &JwtTemplate) -> Result<SignedJwt, SignError> {
        let keys = self.current.load();
        let signer = match template.key_use {
            KeyUse::JwtSvid => keys.jwt_svid.as_ref(),
            KeyUse::Oauth => keys.oauth.as_ref(),
            KeyUse::X509 | KeyUse::Journal | KeyUse::Ssh => {
                return Err(SignError::Refused(format!("{} keys sign no tokens", template.key_use.as_str())));
            }
        };
        signer.ok_or(SignError::NoActiveKey(template.key_use.as_str()))?.sign(template)
    }
}

impl Minter for Keyring {
    fn x509<'a>(&'a self, template: &'a X509Template, key: &'a ProvenKey) -> Fut<'a, Result<X509Svid, SignError>> {
        Box::pin(async move { self.sign_x509(template, key) })
    }
    fn jwt<'a>(&'a self, template: &'a JwtTemplate) -> Fut<'a, Result<SignedJwt, SignError>> {
        Box::pin(async move { self.sign_jwt(template) })
    }
}

impl SshSigner for Keyring {
    fn public(&self) -> Option<PublicKey> {
        let keys = self.current.load();
        let (id, _) = keys.ssh.as_ref()?;
        keys.public.iter().find(|(_, key)| key.kid == *id).map(|(_, key)| key.clone())
    }
    fn sign<'a>(&'a self, kid: &'a str, message: &'a [u8]) -> Fut<'a, Result<[u8; 64], SignError>> {
        Box::pin(async move {
            let keys = self.current.load();
            let (id, key) = keys.ssh.as_ref().ok_or(SignError::NoActiveKey("ssh"))?;
            if id != kid {
                return Err(SignError::Refused("another ssh key signs since this certificate was begun".into()));
            }
            let signature = key.try_sign(message).map_err(|_| SignError::Unavailable("Ed25519".into()))?;
            signature.as_ref().try_into().map_err(|_| SignError::Unavailable("Ed25519".into()))
        })
    }
}

impl JournalSigner for Keyring {
    fn key(&self) -> Option<VerifierKey> {
        self.current.load().journal.as_ref().and_then(|key| self.journal_verifier(key))
    }
    fn checkpoint(&self, root: TreeRoot) -> Result<SignedNote, SignError> {
        // Key and signature are of one moment: another key may take over between two looks.
        let keys = self.current.load();
        let key = keys.journal.as_ref().ok_or(SignError::NoActiveKey("journal"))?;
        let unnamed = || SignError::Refused("the journal's name cannot stand in a signed note".into());
        let verifier = self.journal_verifier(key).ok_or_else(unnamed)?;
        let checkpoint = Checkpoint { origin: verifier.name().into(), size: root.size, root: root.root };
        SignedNote::of(&checkpoint).sign(&verifier, |message| sign_ed25519(key, message))
    }
}

fn sign_ed25519(key: &Ed25519KeyPair, message: &[u8]) -> Result<[u8; 64], SignError> {
    let signature = key.try_sign(message).map_err(|_| SignError::Unavailable("Ed25519".into()))?;
    signature.as_ref().try_into().map_err(|_| SignError::Unavailable("Ed25519".into()))
}

impl Authorities for Keyring {
    fn bundle(&self) -> Arc<Bundle> {
        self.current.load().bundle.clone()
    }
    fn ca_not_after(&self) -> Timestamp {
        self.current.load().x509.as_ref().map(|ca| ca.not_after).unwrap_or_default()
    }
    fn public_keys(&self, key_use: KeyUse) -> Vec<PublicKey> {
        let keys = self.current.load();
        keys.public.iter().filter(|(u, _)| *u == key_use).map(|(_, key)| key.clone()).collect()
    }
}
