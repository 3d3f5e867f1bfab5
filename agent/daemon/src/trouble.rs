//! Why nothing new comes, in words, as far as the agent knows: for `errand agent healthcheck` and `errand doctor`, and for
//! whoever is told to try again.
//!
//! Decides nothing: each part of the agent sets what it found and takes it back once it is over.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

/// What it is about. In the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The node has no identity.
    Attestation,
    /// Its identity is not renewed.
    Renewal,
    Clock,
    /// The server does not answer.
    Server,
    /// The server answers, and gives no SVIDs.
    Svids,
}

/// What is wrong now.
#[derive(Default)]
pub struct Troubles(Mutex<BTreeMap<About, String>>);

impl Troubles {
    pub fn set(&self, about: About, why: impl fmt::Display) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(about, why.to_string());
    }
    pub fn clear(&self, about: About) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&about);
    }
    pub fn get(&self, about: About) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&about).cloned()
    }
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
