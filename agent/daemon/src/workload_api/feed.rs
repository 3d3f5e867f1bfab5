//! One open stream of the Workload API: the caller's scene, sent at once and whenever it changes.
//!
//! The caller was pinned when it connected. It is attested when the stream opens and again whenever what it may be served
//! changes; it is checked before each message; the stream ends with the process, or with the last of its identities.

use crate::{
    bundle::TrustBundle,
    identities::Subscription,
    local::{Peer, attest},
    shared::Shared,
    tasks::{LiveTask, TaskSvid, credentials::task_svid},
    x509::X509Svid,
};
use agent_core::cache::{Stamp, View};
use proto_types::Timestamp;
use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::mpsc;
use tonic::Status;

/// How long a caller that is entitled waits for the first SVID of its entries.
const FIRST_WITHIN: Duration = Duration::from_secs(30);

/// What a caller may be shown now.
pub struct Scene {
    pub view: View<Arc<X509Svid>>,
    pub task: Option<(Arc<LiveTask>, Arc<TaskSvid>)>,
    pub bundle: Arc<TrustBundle>,
    pub trust_domain: String,
    bundle_version: u64,
}

impl Scene {
    /// Everything that `x509::render` shows, in a form that can be compared.
    pub fn stamp(&self) -> SceneStamp {
        let task =
            self.task.as_ref().map(|(task, held)| (task.id, held.svid.not_after, held.svid.chain.first().cloned()));
        (self.view.stamp.clone(), task, self.bundle_version)
    }
    pub fn bundle_stamp(&self) -> SceneStamp {
        (Stamp::default(), None, self.bundle_version)
    }
    fn is_entitled(&self) -> bool {
        self.task.is_some() || !self.view.identities.is_empty() || self.view.pending > 0
    }
}

pub type SceneStamp = (Stamp, Option<(proto_types::TaskId, Timestamp, Option<Vec<u8>>)>, u64);

/// A message and what it depends on; `None` while there is nothing to show yet.
pub type Render<A> = fn(&Scene) -> Option<(SceneStamp, A)>;

/// One open stream.
pub struct Feed<A> {
    pub shared: Arc<Shared>,
    pub peer: Peer,
    pub answers: mpsc::Sender<Result<A, Status>>,
    pub render: Render<A>,
}

/// Why the loop turns.
enum Turn {
    Again,
    Over,
}

impl<A: Send> Feed<A> {
    /// Runs until the caller, its entitlement, its interest or the agent ends.
    pub async fn run(self) {
        let ended = tokio::select! {
            ended = self.feed() => ended,
            // The process is gone; nobody is there to be told.
            () = self.peer.exited() => Ok(()),
            () = self.shared.stop.cancelled() => Err(attest::stopping()),
        };
        if let Err(status) = ended {
            // A reader that does not read is not waited for.
            _ = self.answers.try_send(Err(status));
        }
    }

    async fn feed(&self) -> Result<(), Status> {
        if !self.shared.is_synced() {
            return Err(attest::not_ready(&self.shared));
        }
        let mut subscription = self.shared.identities.subscribe(attest::selectors(&self.shared, &self.peer).await?);
        let patience = self.shared.ports.clock.now().plus(FIRST_WITHIN);
        let mut sent: Option<SceneStamp> = None;
        loop {
            // The place first, then the scene: a slow reader gets what is true when it reads, and nothing in between.
            let Ok(place) = self.answers.reserve().await else { return Ok(()) };
            let scene = self.scene(&subscription).await?;
            if !scene.is_entitled() {
                return Err(attest::no_identity());
            }
            match (self.render)(&scene) {
                Some((stamp, message)) if sent.as_ref() != Some(&stamp) => {
                    attest::recheck(&self.peer)?;
                    place.send(Ok(message));
                    sent = Some(stamp);
                }
                Some(_) => drop(place),
                // What it was sent has expired: the stream must not go on as if it were still good.
                None if sent.is_some() => return Err(attest::not_ready(&self.shared)),
                None => drop(place),
            }
            let limit = if sent.is_none() { Some(patience) } else { None };
            match self.turn(&scene, &subscription, limit).await {
                Turn::Over if sent.is_none() && !self.answers.is_closed() => {
                    return Err(attest::not_ready(&self.shared));
                }
                Turn::Over => return Ok(()),
                Turn::Again => {}
            }
            let now = attest::selectors(&self.shared, &self.peer).await?;
            if now != *subscription.selectors() {
                subscription = self.shared.identities.subscribe(now);
            }
        }
    }

    /// Waits for something that may change the scene.
    async fn turn(&self, scene: &Scene, subscription: &Subscription, limit: Option<Timestamp>) -> Turn {
        let ports = &self.shared.ports;
        let task = async {
            match &scene.task {
                Some((task, held)) => tokio::select! {
                    _ = task.ended() => {}
                    () = ports.sleep_until(held.renew_at) => {}
                },
                None => pending().await,
            }
        };
        let limit = async {
            match limit {
                Some(at) => ports.sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = subscription.changed() => Turn::Again,
            () = task => Turn::Again,
            () = limit => Turn::Over,
            () = self.answers.closed() => Turn::Over,
        }
    }

    async fn scene(&self, subscription: &Subscription) -> Result<Scene, Status> {
        let shared = &self.shared;
        let task = match attest::innermost(shared, &self.peer)? {
            // A task that ends while its SVID is fetched is none any more; its own identities remain.
            Some(task) => match task_svid(shared, &task).await {
                Ok(held) => Some((task, held)),
                Err(_) if task.end_reason().is_some() => None,
                Err(status) => return Err(status),
            },
            None => None,
        };
        // The version before the bundle: at worst the same bundle is sent twice, never an old one for good.
        let bundle_version = shared.bundle_version.load(Ordering::Acquire);
        let bundle = shared.bundle.load_full().ok_or_else(|| attest::not_ready(shared))?;
        let trust_domain = format!("spiffe://{}", shared.trust_domain);
        Ok(Scene { view: shared.identities.view(subscription.selectors()), task, bundle, trust_domain, bundle_version })
    }
}
