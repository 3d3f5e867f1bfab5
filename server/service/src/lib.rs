//! What happens in which order: register, attest, issue, start, exchange, revoke, reconcile.
//!
//! Asynchronous, and the only room that commits. Names ports, never an adapter; knows neither HTTP nor gRPC nor SQL.
//! The order that matters everywhere: decide on what is in memory, sign or create, commit with guards, and release only
//! with the [`server_core::ports::Durable`] in hand.

mod apply;
mod attest;
mod current;
mod error;
mod exchange;
mod explain;
mod follow;
mod holds;
mod issue;
mod leases;
mod node_status;
mod node_view;
mod policies;
mod prune;
mod reconcile;
mod redact;
mod register;
mod replay;
mod revoked;
mod settings;
mod sinks;
mod state;
mod targets;
mod tasks;

pub use apply::{DIRECTORY, ENTRY_PREFIX, Plan, Wanted};
pub use attest::{AgentCaller, Attested, NewAgent};
pub use error::ServiceError;
pub use exchange::{ExchangeCaller, Exchanged, TokenCaller};
pub use explain::{Assumed, Explained, Hypothesis, Path};
pub use follow::Change;
pub use holds::MadeHold;
pub use issue::{IssuedJwt, IssuedX509};
pub use leases::Who;
pub use node_view::{NodeUpdate, NodeWatch};
pub use prune::{LOOK_EVERY, LOOKS};
pub use register::Created;
pub use revoked::RevokedTokens;
pub use settings::Settings;
pub use sinks::{Forwarder, Outlet, SinkView};
pub use state::{State, TargetEntry};
pub use targets::{AppliedTarget, TargetText};
pub use tasks::{NewTask, StartedTask};

use arc_swap::ArcSwap;
use proto_types::{Clock, Entropy, KeyUse, Position, SpiffeId, TargetDoc, Timestamp};
use server_core::{
    clock::{self, Doubt},
    ports::{
        Archive, Authorities, Commit, Durable, Duties, Feed, Ledger, Minter, Outlets, PolicyCompiler, Snapshots,
        StoreMeta, Target, TargetProblem,
    },
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, RwLock},
};
use tokio::sync::{broadcast, watch};

/// Builds the target that a document declares; the registry of kinds stands behind it.
pub type TargetBuilder = Arc<dyn Fn(&TargetDoc) -> Result<Arc<dyn Target>, Vec<TargetProblem>> + Send + Sync>;

/// Reads `[[target]]` documents from TOML text; the registry of kinds stands behind it.
pub type TargetParser = Arc<dyn Fn(&str, &str) -> Result<Vec<TargetDoc>, Vec<TargetProblem>> + Send + Sync>;

/// What the service needs from the outside.
#[derive(Clone)]
pub struct Ports {
    pub ledger: Arc<dyn Ledger>,
    pub feed: Arc<dyn Feed>,
    pub snapshots: Arc<dyn Snapshots>,
    pub archive: Arc<dyn Archive>,
    pub outlets: Arc<dyn Outlets>,
    pub duties: Arc<dyn Duties>,
    pub minter: Arc<dyn Minter>,
    pub authorities: Arc<dyn Authorities>,
    pub policies: Arc<dyn PolicyCompiler>,
    pub build_target: TargetBuilder,
    pub parse_targets: TargetParser,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// Refusals of one task that are recorded: 2 a second, 60 at once.
const REFUSALS: governor::Quota = governor::Quota::per_second(nonzero(2)).allow_burst(nonzero(60));

const fn nonzero(n: u32) -> std::num::NonZeroU32 {
    match std::num::NonZeroU32::new(n) {
        Some(n) => n,
        None => std::num::NonZeroU32::MIN,
    }
}

type OwnKeys = HashMap<KeyUse, (u64, Arc<proto_jose::KeySet>)>;

/// The server's one service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    ports: Ports,
    settings: Settings,
    meta: StoreMeta,
    state: RwLock<State>,
    policy: ArcSwap<policies::Loaded>,
    /// How far `state` has followed the journal: the next position.
    applied: watch::Sender<u64>,
    changes: broadcast::Sender<Change>,
    /// Whether the journal has not been followed for a while.
    adrift: watch::Sender<bool>,
    exchange: exchange::Answers,
    /// Parsed verification keys by use, each with the bundle's sequence they were parsed at.
    own_keys: ArcSwap<OwnKeys>,
    leases: reconcile::Workers,
    /// How fast one task's refusals are recorded.
    refusals: governor::DefaultKeyedRateLimiter<proto_types::TaskId>,
    /// Nodes whose renewed SVID is being adopted.
    adopting: Mutex<HashSet<SpiffeId>>,
    /// One policy document after another: each is compiled with all that are in force.
    applying: tokio::sync::Mutex<()>,
    redacting: tokio::sync::Mutex<()>,
    sinks: Mutex<Vec<Arc<sinks::Progress>>>,
    /// What could have gone from the journal at each of the last looks.
    looks: Mutex<VecDeque<Position>>,
}

impl Service {
    /// Loads the snapshot. The follower and the reconciler are started by [`Self::run`].
    pub async fn load(ports: Ports, settings: Settings) -> Result<Self, ServiceError> {
        let snapshot = ports.snapshots.load().await?;
        let meta = ports.snapshots.meta();
        let at = snapshot.at;
        let policy = policies::Loaded::compile(ports.policies.as_ref(), &snapshot.policies);
        let state = State::from_snapshot(snapshot, &ports.build_target);
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                meta,
                state: RwLock::new(state),
                policy: ArcSwap::from_pointee(policy),
                applied: watch::Sender::new(at.0),
                changes: broadcast::Sender::new(4096),
                adrift: watch::Sender::new(false),
                exchange: exchange::Answers::default(),
                own_keys: ArcSwap::default(),
                leases: reconcile::Workers::default(),
                refusals: governor::RateLimiter::keyed(REFUSALS),
                adopting: Mutex::default(),
                applying: tokio::sync::Mutex::default(),
                redacting: tokio::sync::Mutex::default(),
                sinks: Mutex::default(),
                looks: Mutex::default(),
                ports,
            }),
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }
    pub fn meta(&self) -> &StoreMeta {
        &self.inner.meta
    }
    pub fn ports(&self) -> &Ports {
        &self.inner.ports
    }
    pub fn now(&self) -> Timestamp {
        self.inner.ports.clock.now()
    }
    /// Why the clock is not believed now, if it is not.
    pub fn clock_in_doubt(&self) -> Option<Doubt> {
        clock::judge(self.now(), self.inner.ports.snapshots.meta().clock_high_water).err()
    }

    /// Every change of the state, in journal order. A receiver that lags must start again from a whole view.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Tells watchers that the published keys changed: after the keys in use did.
    pub fn announce_bundle(&self) {
        let _ = self.inner.changes.send(Change::Bundle);
    }

    /// A look at the state. Never held across an await, crypto or a target call.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.state.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Commits and waits until this server's own memory has passed the unit: what is acknowledged is what is seen.
    pub(crate) async fn commit_and_follow(&self, unit: Commit) -> Result<Durable, ServiceError> {
        let durable = self.commit(unit).await?;
        self.follow_to(durable.last()).await;
        Ok(durable)
    }

    pub(crate) async fn commit(&self, unit: Commit) -> Result<Durable, ServiceError> {
        Ok(self.inner.ports.ledger.commit(unit).await?)
    }

    pub(crate) async fn follow_to(&self, last: Position) {
        let mut applied = self.inner.applied.subscribe();
        // The sender lives as long as `self`.
        let _ = applied.wait_for(|at| *at > last.0).await;
    }

    pub(crate) fn target(&self, name: &str) -> Option<Arc<dyn Target>> {
        self.read(|s| s.targets.get(name).and_then(|t| t.target.as_ref().ok().cloned()))
    }
}
