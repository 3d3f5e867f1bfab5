//! Carrying out a plan: one step becomes one commit and, once that is durable, one change of the keys in memory.

use crate::{
    ca, key,
    keyring::{Keyring, KeyringError},
    seal,
    snapshot::signer_id,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proto_types::{KeyUse, Record, Timestamp};
use serde_json::json;
use server_core::{
    authority::{KeyAction, Lifetimes},
    ports::{AuthorityRow, AuthorityState, Commit, Write},
};

/// What changes in memory once the commit is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub put: Vec<AuthorityRow>,
    pub drop: Vec<String>,
}

/// One step, ready to commit. Add a fence, commit, then hand `delta` to [`Keyring::apply`].
#[derive(Clone, Debug)]
pub struct Change {
    pub commit: Commit,
    pub delta: Delta,
}

impl Keyring {
    /// Prepares one step of `server-core::authority::plan`, or of an operator: prepare is `Create` of a prepared key,
    /// revoke is `Drop`. Changes nothing.
    pub async fn carry_out(
        &self,
        action: &KeyAction,
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<Change, KeyringError> {
        match action {
            KeyAction::Create { key_use, state: AuthorityState::Active } => {
                let row = self.generate(*key_use, lifetimes, now).await?;
                Ok(self.activated(row, now))
            }
            KeyAction::Create { key_use, .. } => Ok(prepared(self.generate(*key_use, lifetimes, now).await?, now)),
            KeyAction::Activate { id, .. } => {
                let row = self.row(id)?;
                if row.state != AuthorityState::Prepared {
                    return Err(KeyringError::NotPrepared { id: id.clone() });
                }
                Ok(self.activated(row, now))
            }
            KeyAction::Drop { id, .. } => self.retired(&self.row(id)?, now),
        }
    }

    /// A new prepared key, sealed.
    pub async fn generate(
        &self,
        key_use: KeyUse,
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<AuthorityRow, KeyringError> {
        let failed = |_| KeyringError::Generate(key_use.as_str());
        let not_after = Timestamp::from_secs(now.plus(lifetimes.of(key_use)).as_secs());
        let pkcs8 = key::generate(key_use).map_err(failed)?;
        let private = key::PrivateKey::load(key_use, &pkcs8).map_err(failed)?;
        let spki = private.spki().map_err(failed)?;
        let (id, public) = match &private {
            key::PrivateKey::Ca(key) => {
                let td = &self.realm.trust_domain;
                let cert = ca::certificate(key, td, now, not_after, self.entropy.as_ref())?;
                (hex::encode(rcgen::CertificateParams::default().key_identifier(key)), cert)
            }
            _ => {
                let id = proto_jose::thumbprint(&spki).map_err(|_| KeyringError::Generate(key_use.as_str()))?;
                (id, spki)
            }
        };
        let sealed = seal::seal(&self.kek, &self.realm.place(&id), &pkcs8)
            .await
            .map_err(|source| KeyringError::Sealed { id: id.clone(), source })?;
        Ok(AuthorityRow { id, key_use, state: AuthorityState::Prepared, sealed, public, created_at: now, not_after })
    }

    fn row(&self, id: &str) -> Result<AuthorityRow, KeyringError> {
        self.snapshot().rows.get(id).cloned().ok_or_else(|| KeyringError::NoSuchKey { id: id.into() })
    }

    /// The key becomes the one that signs; every other active one of its use becomes old.
    fn activated(&self, mut row: AuthorityRow, now: Timestamp) -> Change {
        row.state = AuthorityState::Active;
        let others =
            |r: &&AuthorityRow| r.key_use == row.key_use && r.state == AuthorityState::Active && r.id != row.id;
        let snapshot = self.snapshot();
        let old: Vec<AuthorityRow> = snapshot
            .rows
            .values()
            .filter(others)
            .map(|r| AuthorityRow { state: AuthorityState::Old, ..r.clone() })
            .collect();
        let replaced: Vec<&str> = old.iter().map(|r| r.id.as_str()).collect();
        let record = record(now, "authority.activated", &row, json!({ "replaced": replaced }));
        let mut put = old;
        put.push(row);
        let commit = put.iter().fold(Commit::of(record), |unit, r| unit.put(Write::Authority(r.clone())));
        Change { commit, delta: Delta { put, drop: Vec::new() } }
    }

    fn retired(&self, row: &AuthorityRow, now: Timestamp) -> Result<Change, KeyringError> {
        if signer_id(&self.snapshot().rows, row.key_use) == Some(row.id.as_str()) {
            return Err(KeyringError::Signs { id: row.id.clone() });
        }
        let record = record(now, "authority.retired", row, json!({}));
        let commit = Commit::of(record).put(Write::DropAuthority(row.id.clone()));
        Ok(Change { commit, delta: Delta { put: Vec::new(), drop: vec![row.id.clone()] } })
    }
}

fn prepared(row: AuthorityRow, now: Timestamp) -> Change {
    let record = record(now, "authority.prepared", &row, json!({}));
    let commit = Commit::of(record).put(Write::Authority(row.clone()));
    Change { commit, delta: Delta { put: vec![row], drop: Vec::new() } }
}

/// The whole new value but its sealed half: a record lasts, is exported and is shown to people.
fn record(now: Timestamp, kind: &'static str, row: &AuthorityRow, more: serde_json::Value) -> Record {
    let mut detail = json!({
        "id": row.id, "use": row.key_use, "state": row.state, "public": STANDARD.encode(&row.public),
        "created_at": row.created_at, "not_after": row.not_after,
    });
    if let (Some(detail), Some(more)) = (detail.as_object_mut(), more.as_object()) {
        detail.extend(more.clone());
    }
    Record::new(now, kind).credential(row.key_use.as_str(), &row.id).detail(detail)
}
