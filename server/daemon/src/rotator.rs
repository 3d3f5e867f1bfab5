//! The rotator: carries out what `server-core::authority::plan` says is due, one durable step at a time, and keeps the
//! server's own certificate fresh. When keys change is the plan's; what a step is, the keyring's.

use proto_types::{Clock, Epoch, KeyUse, Secret};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use server_api::tls;
use server_authority::{Keyring, KeyringError};
use server_core::{
    authority::{KeyAction, Lifetimes, plan},
    clock::{self, Doubt},
    issue::Ttls,
    ports::{Commit, CommitError, Guard, Ledger, ReadError, SignError, Write},
};
use server_store::Store;
use std::sync::{Arc, Mutex, PoisonError};

/// The job whose epoch rises with each change of a key: of several servers one carries a step out.
pub const KEYS: &str = "keys";

/// Why a step could not be carried out. It is tried again with the next tick.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error(transparent)]
    Keys(#[from] KeyringError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("another server changed the keys in this moment; look at them and try again")]
    Overtaken,
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the server's own certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

pub struct Rotator {
    pub keyring: Arc<Keyring>,
    pub ledger: Arc<dyn Ledger>,
    pub store: Arc<dyn Store>,
    /// How often the keys were changed, as far as they are known here. Held while one is changed.
    pub epoch: tokio::sync::Mutex<Epoch>,
    pub clock: Arc<dyn Clock>,
    pub lifetimes: Lifetimes,
    pub identity: tls::Identity,
    pub dns_names: Vec<String>,
    pub provider: Arc<CryptoProvider>,
    /// When the certificate in use was made and when it ends, and by which CA.
    pub made: Mutex<Option<Made>>,
}

pub struct Made {
    renew_at: proto_types::Timestamp,
    ca: Option<String>,
    /// PEM of chain and key, for targets that authenticate the server by it.
    pub pem: (String, Secret<String>),
}

impl Rotator {
    /// Does everything that is due. Answers whether the published keys changed. A clock in doubt makes and drops no key.
    pub async fn tick(&self) -> Result<bool, RotateError> {
        let mut changed = false;
        let now = self.clock.now();
        let due = match clock::judge(now, self.store.meta().clock_high_water) {
            Ok(()) => plan(now, &self.keyring.views(), &self.lifetimes),
            Err(Doubt::Back { .. }) => Vec::new(),
            Err(Doubt::Ahead { .. }) => return Ok(false),
        };
        for action in due {
            match self.carry_out(&action, None).await {
                Ok(()) => {}
                // What it did is in use here by now, and what is due is another question.
                Err(RotateError::Overtaken) => return Ok(true),
                Err(error) => return Err(error),
            }
            changed = true;
        }
        self.refresh_identity()?;
        Ok(changed)
    }

    /// One step, unless another server was faster.
    pub async fn carry_out(&self, action: &KeyAction, operator: Option<String>) -> Result<(), RotateError> {
        let mut epoch = self.epoch.lock().await;
        let next = Epoch(epoch.0 + 1);
        let change = self.keyring.carry_out(action, &self.lifetimes, self.clock.now()).await?;
        let (guards, writes, mut records) = change.commit.into_parts();
        for record in &mut records {
            record.operator.clone_from(&operator);
        }
        let mut records = records.into_iter();
        let Some(first) = records.next() else { return Ok(()) };
        let holder = self.store.meta().store_id;
        let fence = Write::Fence { job: KEYS, epoch: next, holder };
        let mut unit = Commit::of(first).when(Guard::Fence(KEYS, *epoch)).put(fence);
        unit = records.fold(unit, Commit::also);
        unit = guards.into_iter().fold(unit, Commit::when);
        unit = writes.into_iter().fold(unit, Commit::put);
        match self.ledger.commit(unit).await {
            Ok(_) => {}
            Err(CommitError::Lost(Guard::Fence(..))) => {
                self.read(&mut epoch).await?;
                return Err(RotateError::Overtaken);
            }
            Err(error) => return Err(error.into()),
        }
        self.keyring.apply(&change.delta, next).await?;
        *epoch = next;
        Ok(())
    }

    /// Takes the keys as they are stored, when another server changed them. Answers whether it did.
    pub async fn reload(&self) -> Result<bool, RotateError> {
        let mut epoch = self.epoch.lock().await;
        let before = *epoch;
        self.read(&mut epoch).await?;
        Ok(*epoch != before)
    }

    async fn read(&self, epoch: &mut Epoch) -> Result<(), RotateError> {
        // The epoch first: keys that are newer than it are read again, and never the other way round.
        let found = self.store.fence(KEYS).await?;
        if found == *epoch {
            return Ok(());
        }
        self.keyring.replace(self.store.authorities().await?, found).await?;
        *epoch = found;
        Ok(())
    }

    fn active_ca(&self) -> Option<String> {
        let active = server_core::ports::AuthorityState::Active;
        self.keyring.views().into_iter().find(|v| v.key_use == KeyUse::X509 && v.state == active).map(|v| v.id)
    }

    /// A new certificate at half of its life, and at once when another CA signs.
    fn refresh_identity(&self) -> Result<(), RotateError> {
        let now = self.clock.now();
        let ca = self.active_ca();
        let fresh = {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.as_ref().is_some_and(|m| m.renew_at > now && m.ca == ca)
        };
        if fresh {
            return Ok(());
        }
        let own = self.keyring.server_identity(&self.dns_names, &Ttls::default(), now)?;
        let chain: Vec<_> = own.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivatePkcs8KeyDer::from(own.key.expose().clone());
        let key = self.provider.key_provider.load_private_key(key.into())?;
        self.identity.store(Some(Arc::new(CertifiedKey::new(chain, key))));
        let pem: String = own.chain.iter().map(|der| tls::pem("CERTIFICATE", der)).collect();
        let key_pem = Secret::new(tls::pem("PRIVATE KEY", own.key.expose()));
        let renew_at = now.plus(own.not_after.since(now) / 2);
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(Made { renew_at, ca, pem: (pem, key_pem) });
        Ok(())
    }
}
