//! Being current, where other servers write to the same store: what was acknowledged by any of them is known here, or
//! nothing is said that depends on it.
//!
//! Who looks at what may have ended asks first; who does not find what may just have been made asks and looks again. With
//! a store of its own a server is always current.

use crate::{Service, ServiceError};
use proto_types::Position;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long it may take. Behind it another server is asked.
const LIMIT: Duration = Duration::from_millis(500);
/// How often it is looked whether the journal can be followed, and after how many looks that found it cannot the server is
/// adrift: agents are better off with another.
const LOOK: Duration = Duration::from_secs(1);
const ADRIFT: u32 = 3;

impl Service {
    /// Whatever was acknowledged anywhere before this call is in memory after it.
    pub async fn confirm(&self) -> Result<(), ServiceError> {
        if !self.inner.settings.shared_store {
            return Ok(());
        }
        let current = async {
            let size = self.inner.ports.feed.current().await?;
            if let Some(last) = size.checked_sub(1) {
                self.follow_to(Position(last)).await;
            }
            Ok(())
        };
        tokio::select! {
            confirmed = current => confirmed,
            () = self.inner.ports.clock.sleep(LIMIT) => {
                let limit = LIMIT.as_millis();
                let why = format!("this server cannot confirm within {limit} ms that it is current; ask another one");
                Err(ServiceError::Unavailable(why))
            }
        }
    }

    /// Minds whether this server keeps up with the others, until `stop`.
    pub async fn mind_the_store(&self, stop: CancellationToken) {
        let mut away = 0u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.ports.clock.sleep(LOOK) => {}
            }
            away = if self.inner.ports.ledger.trouble().is_some() { away.saturating_add(1) } else { 0 };
            let adrift = away >= ADRIFT;
            self.inner.adrift.send_if_modified(|was| std::mem::replace(was, adrift) != adrift);
        }
    }

    /// Completes when this server has lost the journal.
    pub(crate) async fn adrift(&self) -> ServiceError {
        let mut adrift = self.inner.adrift.subscribe();
        // The sender lives as long as `self`.
        let _ = adrift.wait_for(|adrift| *adrift).await;
        ServiceError::Unavailable("this server cannot follow the journal; ask another one".into())
    }

    /// Looks, and looks again before it says no.
    pub(crate) async fn surely<T, E>(&self, look: impl Fn() -> Result<T, E>) -> Result<T, E>
    where
        E: From<ServiceError>,
    {
        match look() {
            Err(_) if self.inner.settings.shared_store => {
                self.confirm().await?;
                look()
            }
            looked => looked,
        }
    }
}
