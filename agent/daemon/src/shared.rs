//! What the parts of one running agent have in common. No part of it is a global: a process may run several agents.

use crate::{
    bundle::TrustBundle,
    disk::{DataDir, DiskError},
    identities::Identities,
    identity::{CurrentIdentity, Identity},
    node::journal::Journal,
    ports::Ports,
    tasks::Tasks,
    trouble::Troubles,
    upstream::{CurrentBundle, Refusal, Upstream, refusal},
};
use agent_core::WorkloadAttestor;
use agent_workload::{Hasher, Witness};
use arc_swap::ArcSwapOption;
use proto_types::TrustDomain;
use proto_wire::errand::v1::ServerInfo;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

/// How the agent stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentStatus {
    /// Attesting, or waiting for the first word of the server.
    Starting,
    /// The server's entries are here and kept current.
    Ready,
    /// What was known is served until it expires; the server does not answer.
    Disconnected,
    /// The node's identity is lost and its method cannot prove it again.
    Lost { why: String },
}

/// Which identity of the agent a call was made with: a refusal of an older one says nothing about this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// The common parts.
pub struct Shared {
    pub ports: Ports,
    pub trust_domain: TrustDomain,
    pub upstream: Upstream,
    pub identity: CurrentIdentity,
    /// Which identity that is; 0 before the first.
    pub generation: watch::Sender<Generation>,
    /// A refusal the server stated, and of which identity.
    pub refused: watch::Sender<Option<(Generation, Refusal)>>,
    pub bundle: CurrentBundle,
    /// Grows with each bundle.
    pub bundle_version: AtomicU64,
    pub server: ArcSwapOption<ServerInfo>,
    pub identities: Arc<Identities>,
    pub tasks: Tasks,
    pub journal: Journal,
    pub disk: Arc<DataDir>,
    pub witness: Arc<Witness>,
    pub hasher: Arc<Hasher>,
    pub attestors: Vec<Arc<dyn WorkloadAttestor>>,
    pub launch_socket: PathBuf,
    pub synced: AtomicBool,
    pub status: watch::Sender<AgentStatus>,
    pub troubles: Troubles,
    pub stop: CancellationToken,
    pub running: TaskTracker,
}

impl Shared {
    /// Whether the server's entries have been heard at least once.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The server's first word is here.
    pub fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
        self.set_status(AgentStatus::Ready);
    }

    pub fn set_status(&self, status: AgentStatus) {
        self.status.send_if_modified(|held| {
            let changed = *held != status;
            if changed {
                tracing::info!(from = ?held, to = ?status, "agent status");
                *held = status;
            }
            changed
        });
    }

    /// Asked before every call that brings a new credential: an agent that cannot write down what it learns, or does not
    /// believe its server, takes nothing new.
    pub fn takes_new(&self) -> Result<(), Status> {
        if let Some(e) = self.disk.problem() {
            return Err(Status::unavailable(format!("nothing new is taken from the server: {e}")));
        }
        self.journal.believed()
    }

    /// Why nothing new comes, or soon none will; `None` when all is well.
    pub fn problem(&self) -> Option<String> {
        if let AgentStatus::Lost { why } = &*self.status.borrow() {
            return Some(why.clone());
        }
        let now = self.ports.clock.now();
        let is_over = |identity: &Arc<Identity>| identity.svid.not_after <= now;
        let expired = self.identity.get().filter(is_over);
        let expired = expired.map(|i| format!("the agent's SVID expired at {}", i.svid.not_after));
        let disk = self.disk.problem().map(|e| e.to_string());
        let doubt = self.journal.doubt().map(|d| d.to_string());
        let all: Vec<String> = [expired, disk, doubt].into_iter().flatten().chain(self.troubles.all()).collect();
        Some(all.join("; ")).filter(|text| !text.is_empty())
    }

    /// Replaces the agent's identity and leaves the connection that presented the old one.
    pub fn set_identity(&self, identity: Option<Arc<Identity>>) {
        self.identity.set(identity);
        self.upstream.renew();
        self.generation.send_modify(|g| g.0 += 1);
    }

    /// Waits until the agent has an identity.
    pub async fn identified(&self) -> Generation {
        let mut changes = self.generation.subscribe();
        loop {
            let generation = *changes.borrow_and_update();
            if self.identity.get().is_some() {
                return generation;
            }
            if changes.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Hands a refusal of the node to whoever minds its identity. `true` if `status` was one.
    pub fn note_refusal(&self, status: &Status, generation: Generation) -> bool {
        let Some(refusal) = refusal(status) else { return false };
        self.refused.send_replace(Some((generation, refusal)));
        true
    }

    /// Takes over a newer bundle, tells every stream and writes it down.
    pub async fn set_bundle(&self, bundle: Arc<TrustBundle>) {
        if self.bundle.load().as_ref().is_some_and(|held| held.doc() == bundle.doc()) {
            return;
        }
        self.bundle.store(Some(bundle.clone()));
        self.bundle_version.fetch_add(1, Ordering::Release);
        // A token whose key is gone verifies nowhere any more.
        self.identities.retain_jwts(|jwt| jwt.kid.as_ref().is_none_or(|kid| bundle.has_jwt_key(kid)));
        self.identities.wake_all();
        let kept = self.on_disk(move |disk| disk.keep(BUNDLE_FILE, bundle.doc())).await;
        if let Err(e) = kept {
            tracing::error!(error = %e, "the trust bundle cannot be written down");
        }
    }

    /// Runs a blocking piece of work on the data directory.
    pub async fn on_disk<R: Send + 'static>(
        &self,
        work: impl FnOnce(&DataDir) -> Result<R, DiskError> + Send + 'static,
    ) -> Result<R, DiskError> {
        on_disk(self.disk.clone(), work).await
    }

    /// Starts a part of the agent: it ends with the agent, and [`crate::Running::stop`] waits for it.
    pub fn spawn(&self, part: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.running.spawn(async move {
            tokio::select! {
                () = part => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// The newest trust bundle.
pub const BUNDLE_FILE: &str = "bundle.json";

/// Runs a blocking piece of work on a data directory.
pub async fn on_disk<R: Send + 'static>(
    disk: Arc<DataDir>,
    work: impl FnOnce(&DataDir) -> Result<R, DiskError> + Send + 'static,
) -> Result<R, DiskError> {
    let path = disk.path().display().to_string();
    let done = tokio::task::spawn_blocking(move || work(&disk)).await;
    done.unwrap_or_else(|_| Err(DiskError::Io { path, doing: "use", why: "the agent is stopping".into() }))
}
