//! What a store is opened as, whichever backend it lies in.

use crate::PostgresConfig;
use proto_types::{Clock, Entropy};
use std::{path::PathBuf, sync::Arc};

/// Where a ledger lies.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// A file of this server's own.
    Sqlite(PathBuf),
    /// A database that other servers may share.
    Postgres(PostgresConfig),
}

impl StorePlace {
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

/// What a store is opened as.
#[derive(Clone)]
pub struct OpenOptions {
    pub(crate) trust_domain: String,
    pub(crate) dev: bool,
    pub(crate) accept_rollback: bool,
    pub(crate) accept_clock: bool,
    pub(crate) as_it_is: bool,
    pub(crate) memory: Option<PathBuf>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl OpenOptions {
    /// `dev`: the stamp a new store gets and an existing one must have.
    pub fn new(trust_domain: impl Into<String>, dev: bool, entropy: Arc<dyn Entropy>, clock: Arc<dyn Clock>) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            dev,
            accept_rollback: false,
            accept_clock: false,
            as_it_is: false,
            memory: None,
            entropy,
            clock,
        }
    }
    /// Goes on from a state that may lack commits, as a new epoch of the store.
    pub fn accept_rollback(mut self, yes: bool) -> Self {
        self.accept_rollback = yes;
        self
    }
    /// Takes the clock for right as it stands, however far it is from the newest record.
    pub fn accept_clock(mut self, yes: bool) -> Self {
        self.accept_clock = yes;
        self
    }
    /// Opens what is there as it is: nothing is made, and nothing brought up to date.
    pub fn as_it_is(mut self) -> Self {
        self.as_it_is = true;
        self
    }
    /// Remembers in this file what was seen of a shared store last, and refuses one that has gone back behind it. A store in a
    /// file knows by itself.
    pub fn remember_in(mut self, file: PathBuf) -> Self {
        self.memory = Some(file);
        self
    }
}

/// 80 random bits, lowercase base32.
pub(crate) fn store_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    bytes.iter().map(|b| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(b & 31)])).collect()
}
