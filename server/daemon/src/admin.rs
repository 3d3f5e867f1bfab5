//! What an operator asks of the composition itself: keys by hand, and the texts of targets.

use crate::rotator::{RotateError, Rotator};
use proto_types::{Fut, KeyUse};
use server_api::{Admin, AuthorityView, tls};
use server_authority::KeyringError;
use server_core::{
    authority::KeyAction,
    journal::{KeyKind, SignedNote, VerifierKey},
    ports::{Authorities, AuthorityState, JournalSigner},
};
use server_service::{Service, ServiceError};
use server_store::Store;
use server_targets::Registry;
use std::sync::Arc;

pub struct Operators {
    pub service: Service,
    pub rotator: Arc<Rotator>,
    pub registry: Arc<Registry>,
    pub store: Arc<dyn Store>,
}

impl Operators {
    fn view(&self, id: &str) -> Result<AuthorityView, ServiceError> {
        let found = self.authorities(None).into_iter().find(|a| a.id == id);
        found.ok_or_else(|| ServiceError::NotFound { what: "signing key", id: proto_types::id::excerpt(id) })
    }

    async fn step(&self, action: KeyAction, operator: Option<String>) -> Result<(), ServiceError> {
        self.rotator.carry_out(&action, operator).await.map_err(refused)?;
        self.service.announce_bundle();
        Ok(())
    }
}

/// A public key as those who trust it read it: one line of OpenSSH for hosts, PEM for all others.
fn written(key_use: KeyUse, spki_der: &[u8]) -> String {
    match key_use {
        KeyUse::Ssh => server_authority::openssh_line(spki_der).unwrap_or_default(),
        _ => tls::pem("PUBLIC KEY", spki_der),
    }
}

fn refused(error: RotateError) -> ServiceError {
    match error {
        RotateError::Keys(KeyringError::NoSuchKey { id }) => ServiceError::NotFound { what: "signing key", id },
        RotateError::Keys(e @ (KeyringError::NotPrepared { .. } | KeyringError::Signs { .. })) => {
            ServiceError::Conflict(e.to_string())
        }
        other => ServiceError::Unavailable(other.to_string()),
    }
}

impl Admin for Operators {
    fn target_texts(&self, name: &str) -> Option<(Option<String>, Option<String>)> {
        let doc = self.service.read(|s| s.targets.get(name).map(|t| t.doc.clone()))?;
        let store_id = &self.service.meta().store_id;
        Some((self.registry.setup(&doc), self.registry.by_hand(&doc, store_id)))
    }

    fn journal_keys(&self) -> Vec<VerifierKey> {
        let Some(active) = self.journal_key() else { return Vec::new() };
        let before = self.rotator.keyring.public_keys(KeyUse::Journal);
        // The key itself is the end of an Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4).
        let before = before
            .iter()
            .filter_map(|key| VerifierKey::new(active.name(), KeyKind::Log, *key.spki_der.last_chunk::<32>()?).ok());
        let before: Vec<_> = before.filter(|key| *key != active).collect();
        [vec![active], before].concat()
    }

    fn journal_key(&self) -> Option<VerifierKey> {
        JournalSigner::key(self.rotator.keyring.as_ref())
    }

    fn keep_cosignatures(&self, note: SignedNote) -> Fut<'_, Result<Option<SignedNote>, ServiceError>> {
        Box::pin(async move { Ok(self.store.keep_cosignatures(note).await?) })
    }

    fn write_root(&self) -> Fut<'_, Result<(), ServiceError>> {
        Box::pin(async move {
            self.store.write_root(Some(self.rotator.keyring.as_ref())).await?;
            Ok(())
        })
    }

    fn space(&self) -> Option<(u64, u64)> {
        self.store.space()
    }

    fn chain(&self) -> Vec<Vec<u8>> {
        let own = self.rotator.identity.load();
        own.iter().flat_map(|key| key.cert.iter().map(|der| der.to_vec())).collect()
    }

    fn authorities(&self, key_use: Option<KeyUse>) -> Vec<AuthorityView> {
        let keyring = &self.rotator.keyring;
        let public = |id: &str, key_use: KeyUse| match key_use {
            KeyUse::X509 => {
                let certs = keyring.bundle();
                let cert = certs.x509.iter().find(|der| tls::key_id_of(der).as_deref() == Some(id));
                cert.map(|der| tls::pem("CERTIFICATE", der)).unwrap_or_default()
            }
            _ => {
                let keys = keyring.public_keys(key_use);
                let spki = keys.iter().find(|k| k.kid == id).map(|k| k.spki_der.as_slice());
                spki.map(|der| written(key_use, der)).unwrap_or_default()
            }
        };
        let wanted = |u: KeyUse| key_use.is_none_or(|k| k == u);
        let mut views: Vec<_> = keyring
            .views()
            .into_iter()
            .filter(|v| wanted(v.key_use))
            .map(|v| AuthorityView {
                public: public(&v.id, v.key_use),
                id: v.id,
                key_use: v.key_use,
                state: v.state,
                created_at: v.created_at,
                not_after: v.not_after,
            })
            .collect();
        views.sort_by(|a, b| (a.key_use, a.created_at, &a.id).cmp(&(b.key_use, b.created_at, &b.id)));
        views
    }

    fn prepare(&self, key_use: KeyUse, operator: Option<String>) -> Fut<'_, Result<AuthorityView, ServiceError>> {
        Box::pin(async move {
            let before: Vec<_> = self.authorities(Some(key_use)).into_iter().map(|a| a.id).collect();
            self.step(KeyAction::Create { key_use, state: AuthorityState::Prepared }, operator).await?;
            let made = self.authorities(Some(key_use)).into_iter().find(|a| !before.contains(&a.id));
            made.ok_or_else(|| ServiceError::Unavailable("the new key is not in use yet; list the keys again".into()))
        })
    }

    fn activate(&self, id: &str, operator: Option<String>) -> Fut<'_, Result<AuthorityView, ServiceError>> {
        let id = id.to_string();
        Box::pin(async move {
            let key_use = self.view(&id)?.key_use;
            self.step(KeyAction::Activate { key_use, id: id.clone() }, operator).await?;
            self.view(&id)
        })
    }
}
