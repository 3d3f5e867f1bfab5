//! Another key-encryption key for a store at rest: from a file into a token or a service, or to another one of its kind.

use crate::{
    config::ServerConfig,
    rotator::KEYS,
    start::{Machine, StartError, existing_store},
};
use proto_types::{Epoch, Record};
use serde_json::json;
use server_authority::{KekPlace, KeyringError, Realm, rekey};
use server_core::ports::{Commit, CommitError, Guard, ReadError, Write};

/// Why nothing was sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    #[error(transparent)]
    Store(#[from] StartError),
    #[error("the store: {0}")]
    Read(#[from] ReadError),
    #[error("the store: {0}")]
    Commit(#[from] CommitError),
    #[error("{0} servers are up on this store: what they seal next would be sealed with the old key. Stop them first")]
    Running(usize),
    #[error("both configurations name the same key-encryption key: {0}")]
    Same(KekPlace),
    #[error("the key-encryption key at {at}: {why}")]
    Kek { at: KekPlace, why: String },
    #[error("the signing keys: {0}")]
    Keys(#[from] KeyringError),
}

/// Seals the signing keys with the key that `config` names, which were sealed with the one at `old`. How many were.
pub async fn rekey_store(config: &ServerConfig, old: &KekPlace, machine: &Machine) -> Result<usize, RekeyError> {
    if config.kek == *old {
        return Err(RekeyError::Same(old.clone()));
    }
    let store = existing_store(config, machine).await?;
    match store.servers().await? {
        0 => {}
        up => return Err(RekeyError::Running(up)),
    }
    let epoch = store.fence(KEYS).await?;
    let rows = store.authorities().await?;
    let open = async |place: &KekPlace, first| {
        let kek = place.open(first, machine.entropy.as_ref(), machine.clock.clone()).await;
        kek.map_err(|e| RekeyError::Kek { at: place.clone(), why: e.to_string() })
    };
    // The old one first: a new file is made only when there is something to seal with it.
    let (before, after) = (open(old, false).await?, open(&config.kek, true).await?);
    let realm = Realm {
        store_id: store.meta().store_id,
        trust_domain: config.trust_domain.clone(),
        refresh_hint: config.authority.refresh_hint,
    };
    let sealed = rekey(rows, &realm, &before, &after).await?;
    let count = sealed.len();
    if count == 0 {
        return Ok(0);
    }
    let keys: Vec<_> = sealed.iter().map(|row| row.id.clone()).collect();
    let (from, to) = (hex::encode(before.id()), hex::encode(after.id()));
    let record = Record::new(machine.clock.now(), "authority.resealed")
        .detail(json!({ "keys": keys, "kek_before": from, "kek": to }));
    let fence = Write::Fence { job: KEYS, epoch: Epoch(epoch.0 + 1), holder: realm.store_id };
    let unit = Commit::of(record).when(Guard::Fence(KEYS, epoch)).put(fence);
    let unit = sealed.into_iter().fold(unit, |unit, row| unit.put(Write::Authority(row)));
    store.commit(unit).await?;
    Ok(count)
}
