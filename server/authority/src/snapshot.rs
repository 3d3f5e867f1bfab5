//! The keys as they are in use: everything that signing and publishing need, ready, built once per change.

use crate::{
    ca::{self, Ca},
    jwt::JwtSigner,
    kek::Kek,
    key::PrivateKey,
    keyring::{KeyringError, Realm},
    seal,
};
use aws_lc_rs::signature::Ed25519KeyPair;
use proto_jose::thumbprint;
use proto_types::{KeyUse, Secret};
use server_core::ports::{AuthorityRow, AuthorityState, Bundle, PublicKey};
use std::{collections::BTreeMap, sync::Arc};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Rows by id.
pub(crate) type Rows = BTreeMap<String, AuthorityRow>;

/// The private halves of keys that sign or will sign, by id: each with the sealed value it was opened from.
pub(crate) type Opened = BTreeMap<String, (Vec<u8>, Arc<Secret<Vec<u8>>>)>;

/// One consistent state of all keys. Immutable; a change makes a new one.
pub(crate) struct Snapshot {
    pub(crate) rows: Rows,
    pub(crate) opened: Opened,
    pub(crate) x509: Option<Ca>,
    pub(crate) jwt_svid: Option<JwtSigner>,
    pub(crate) oauth: Option<JwtSigner>,
    pub(crate) journal: Option<Ed25519KeyPair>,
    /// The key that signs SSH certificates, and its id.
    pub(crate) ssh: Option<(String, Ed25519KeyPair)>,
    pub(crate) bundle: Arc<Bundle>,
    /// Public halves with their uses, oldest first.
    pub(crate) public: Vec<(KeyUse, PublicKey)>,
}

impl Snapshot {
    /// `opened`: what [`open_all`] made of these rows.
    pub(crate) fn build(rows: Rows, opened: Opened, realm: &Realm, sequence: u64) -> Result<Self, KeyringError> {
        let mut next = Self {
            x509: None,
            jwt_svid: None,
            oauth: None,
            journal: None,
            ssh: None,
            bundle: Arc::default(),
            public: public(&rows)?,
            rows: Rows::new(),
            opened: Opened::new(),
        };
        for (id, (_, pkcs8)) in &opened {
            let Some(row) = rows.get(id) else { continue };
            let key = load(row, pkcs8)?;
            if signer_id(&rows, row.key_use) == Some(row.id.as_str()) {
                next.install(row, key)?;
            }
        }
        next.bundle = Arc::new(bundle(&rows, &next.public, realm, sequence));
        (next.rows, next.opened) = (rows, opened);
        Ok(next)
    }

    fn install(&mut self, row: &AuthorityRow, key: PrivateKey) -> Result<(), KeyringError> {
        match (row.key_use, key) {
            (KeyUse::X509, PrivateKey::Ca(key)) => self.x509 = Some(ca::load(&row.public, key)?),
            (KeyUse::JwtSvid, PrivateKey::Jwt(key)) => {
                self.jwt_svid = Some(JwtSigner::new(row.id.clone(), key, row.not_after));
            }
            (KeyUse::Oauth, PrivateKey::Jwt(key)) => {
                self.oauth = Some(JwtSigner::new(row.id.clone(), key, row.not_after));
            }
            (KeyUse::Journal, PrivateKey::Journal(key)) => self.journal = Some(key),
            (KeyUse::Ssh, PrivateKey::Ssh(key)) => self.ssh = Some((row.id.clone(), key)),
            _ => return Err(KeyringError::Mismatch { id: row.id.clone() }),
        }
        Ok(())
    }
}

/// The id of the key that signs for a use: the newest active one, as `server-core::authority` has it.
pub(crate) fn signer_id(rows: &Rows, key_use: KeyUse) -> Option<&str> {
    let active = rows.values().filter(|r| r.key_use == key_use && r.state == AuthorityState::Active);
    active.max_by_key(|r| (r.created_at, &r.id)).map(|r| r.id.as_str())
}

/// Opens every key that signs or will sign, as far as `before` has not: a wrong KEK shows at start, not at midnight, and a
/// key that was prepared in time begins to sign whoever is away by then.
pub(crate) async fn open_all(rows: &Rows, before: &Opened, kek: &Kek, realm: &Realm) -> Result<Opened, KeyringError> {
    let mut opened = Opened::new();
    for row in rows.values().filter(|r| r.state != AuthorityState::Old) {
        let known = before.get(&row.id).filter(|(sealed, _)| *sealed == row.sealed);
        let pkcs8 = match known {
            Some((_, pkcs8)) => pkcs8.clone(),
            None => {
                let problem = |source| KeyringError::Sealed { id: row.id.clone(), source };
                Arc::new(seal::open(kek, &realm.place(&row.id), &row.sealed).await.map_err(problem)?)
            }
        };
        opened.insert(row.id.clone(), (row.sealed.clone(), pkcs8));
    }
    Ok(opened)
}

/// The key, checked to be the one its row names.
fn load(row: &AuthorityRow, pkcs8: &Secret<Vec<u8>>) -> Result<PrivateKey, KeyringError> {
    let mismatch = || KeyringError::Mismatch { id: row.id.clone() };
    let key = PrivateKey::load(row.key_use, pkcs8).map_err(|_| mismatch())?;
    let own = key.spki().map_err(|_| mismatch())?;
    if own == spki_of(row)? { Ok(key) } else { Err(mismatch()) }
}

/// The row's public key, checked to be the one its id names.
fn spki_of(row: &AuthorityRow) -> Result<Vec<u8>, KeyringError> {
    let mismatch = || KeyringError::Mismatch { id: row.id.clone() };
    let (spki, id) = match row.key_use {
        KeyUse::X509 => {
            let (_, cert) = X509Certificate::from_der(&row.public).map_err(|_| mismatch())?;
            let id = crate::lint::subject_key_id(&cert).map(hex::encode).ok_or_else(mismatch)?;
            (cert.public_key().raw.to_vec(), id)
        }
        KeyUse::JwtSvid | KeyUse::Oauth | KeyUse::Journal | KeyUse::Ssh => {
            (row.public.clone(), thumbprint(&row.public).map_err(|_| mismatch())?)
        }
    };
    if id == row.id { Ok(spki) } else { Err(mismatch()) }
}

fn public(rows: &Rows) -> Result<Vec<(KeyUse, PublicKey)>, KeyringError> {
    let mut ordered: Vec<&AuthorityRow> = rows.values().collect();
    ordered.sort_by_key(|r| (r.created_at, r.id.clone()));
    let key = |row: &AuthorityRow| {
        let spki_der = spki_of(row)?;
        Ok((row.key_use, PublicKey { kid: row.id.clone(), spki_der, not_after: row.not_after }))
    };
    ordered.into_iter().map(key).collect()
}

fn bundle(rows: &Rows, public: &[(KeyUse, PublicKey)], realm: &Realm, sequence: u64) -> Bundle {
    let of = |wanted: KeyUse| public.iter().filter(move |(u, _)| *u == wanted).map(|(_, k)| k);
    Bundle {
        x509: of(KeyUse::X509).filter_map(|k| rows.get(&k.kid)).map(|r| r.public.clone()).collect(),
        jwt: of(KeyUse::JwtSvid).cloned().collect(),
        sequence,
        refresh_hint: realm.refresh_hint.as_secs(),
    }
}
