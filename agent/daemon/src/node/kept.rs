//! The agent's identity on disk, through renewals.
//!
//! The file holds the current pair and the one before, until the server was seen to accept the current one. Whatever is
//! killed when, one of the two is accepted: the server keeps the old serial until the new one is used.

use crate::{
    disk::{DiskError, IdentityDoc},
    identity::Identity,
    shared::Shared,
};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The file's content, in memory as it is on disk.
#[derive(Default)]
pub struct Kept {
    doc: Mutex<Option<IdentityDoc>>,
}

impl Kept {
    pub fn new(doc: Option<IdentityDoc>) -> Self {
        Self { doc: Mutex::new(doc) }
    }

    /// Writes a new identity. A renewal keeps the pair before it, an attestation does not.
    pub async fn put(
        &self,
        shared: &Shared,
        identity: &Identity,
        method: &str,
        renewal: bool,
    ) -> Result<(), DiskError> {
        let mut held = self.doc.lock().await;
        let previous = held.as_ref().filter(|_| renewal).map(|d| d.current.clone());
        let doc = IdentityDoc {
            version: IdentityDoc::VERSION,
            id: identity.svid.spiffe_id.clone(),
            method: method.into(),
            reattestable: identity.reattestable,
            current: identity.keep(),
            previous,
        };
        let done = if renewal { write(shared, &doc).await } else { keep(shared, &doc).await };
        // One that was attested is this node's, written down or not; a renewed one is not used before it is.
        if done.is_ok() || !renewal {
            *held = Some(doc);
        }
        done
    }

    /// The server accepted the current pair: the one before is of no use any more.
    pub async fn confirm(&self, shared: &Shared) -> Result<(), DiskError> {
        let mut held = self.doc.lock().await;
        let Some(doc) = held.as_mut().filter(|d| d.previous.is_some()) else { return Ok(()) };
        let confirmed = IdentityDoc { previous: None, ..doc.clone() };
        write(shared, &confirmed).await?;
        *doc = confirmed;
        Ok(())
    }

    /// The server does not know the current pair: goes back to the one before, if there is one.
    pub async fn fall_back(&self, shared: &Shared) -> Result<Option<Arc<Identity>>, DiskError> {
        let mut held = self.doc.lock().await;
        let Some(doc) = held.as_mut() else { return Ok(None) };
        let Some(previous) = doc.previous.clone() else { return Ok(None) };
        let Ok(identity) = Identity::restore(&previous, doc.reattestable) else { return Ok(None) };
        let back = IdentityDoc { current: previous, previous: None, ..doc.clone() };
        write(shared, &back).await?;
        *doc = back;
        Ok(Some(Arc::new(identity)))
    }

    /// The identity is lost.
    pub async fn drop_all(&self, shared: &Shared) -> Result<(), DiskError> {
        *self.doc.lock().await = None;
        shared.on_disk(|disk| disk.remove(IdentityDoc::FILE)).await
    }
}

/// Owed when it fails.
async fn keep(shared: &Shared, doc: &IdentityDoc) -> Result<(), DiskError> {
    let doc = doc.clone();
    shared.on_disk(move |disk| disk.keep(IdentityDoc::FILE, &doc)).await
}

async fn write(shared: &Shared, doc: &IdentityDoc) -> Result<(), DiskError> {
    let doc = doc.clone();
    shared.on_disk(move |disk| disk.write(IdentityDoc::FILE, &doc)).await
}
