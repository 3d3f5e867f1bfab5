//! Putting one agent together: the data directory, what was written down, the way to the server, the sockets.

use crate::{
    bundle::{BundleDoc, BundleError, TrustBundle},
    config::{AgentConfig, AttestorPorts, Bootstrap},
    disk::{self, DataDir, DiskError, IdentityDoc, JournalDoc},
    identities::Identities,
    identity::{CurrentIdentity, Identity},
    local::{self, admit::Gate, path::Bound, path::SocketPathError, path::reserve},
    node::{fetch, journal::Journal, kept::Kept, life::Life, watch},
    ports::Ports,
    shared::{AgentStatus, BUNDLE_FILE, Generation, Shared},
    tasks::{self, Tasks, launch},
    trouble::Troubles,
    upstream::{CurrentBundle, Upstream, UpstreamError},
};
use agent_workload::{Hasher, Witness, WitnessError, boot_id};
use arc_swap::ArcSwapOption;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};
use tokio::{net::UnixListener, sync::watch as channel};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long connections may take to end when the agent stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the agent did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("trust_bundle {path}: {why}")]
    TrustBundle { path: PathBuf, why: String },
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Socket(#[from] SocketPathError),
    #[error(transparent)]
    Proc(#[from] WitnessError),
    #[error("cannot read the id of this boot: {0}")]
    Boot(String),
}

/// The agent.
pub struct Agent;

/// A running agent. Dropping it stops the agent without waiting.
pub struct Running {
    /// The Workload API socket.
    pub socket: PathBuf,
    /// Where commands are measured.
    pub launch_socket: PathBuf,
    shared: Arc<Shared>,
    sockets: Vec<Bound>,
}

impl Agent {
    /// Starts an agent: its sockets are open when this returns, its first word from the server may still be on its way
    /// (see [`Running::ready`]).
    pub async fn start(config: AgentConfig, ports: Ports) -> Result<Running, StartError> {
        let disk = Arc::new(DataDir::open(&config.data_dir)?);
        let witness = Arc::new(Witness::open(agent_workload::PeerPidfd::Auto)?);
        let boot_id = boot_id().map_err(|e| StartError::Boot(e.to_string()))?;
        let kept = read_identity(&disk, &ports)?;
        let identity = CurrentIdentity::default();
        let bundle: CurrentBundle = Arc::new(ArcSwapOption::empty());
        bundle.store(first_bundle(&config, &disk, kept.is_some())?);
        let upstream = Upstream::new(&config.trust_domain, &config.servers, bundle.clone(), identity.clone(), &ports)?;
        let hasher = Arc::new(Hasher::new(ports.clock.clone(), agent_workload::hash::DEFAULT_LIMIT));
        let attestor_ports = AttestorPorts { clock: ports.clock.clone(), hasher: hasher.clone() };
        let shared = Arc::new(Shared {
            tasks: Tasks::new(boot_id, disk.clone(), witness.clone()),
            identities: Arc::new(Identities::new(ports.clone())),
            attestors: config.attestors.iter().map(|build| build(&attestor_ports)).collect(),
            launch_socket: config.launch_socket.clone(),
            trust_domain: config.trust_domain.clone(),
            generation: channel::Sender::new(Generation(0)),
            refused: channel::Sender::new(None),
            status: channel::Sender::new(AgentStatus::Starting),
            troubles: Troubles::default(),
            synced: AtomicBool::new(false),
            bundle_version: AtomicU64::new(0),
            server: ArcSwapOption::empty(),
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
            ports,
            upstream,
            journal: Journal::new(disk.read::<JournalDoc>(JournalDoc::FILE)?),
            identity,
            bundle,
            disk,
            witness,
            hasher,
        });
        let (doc, restored) = kept.unzip();
        if let Some(restored) = restored {
            shared.set_identity(Some(restored));
        }
        tasks::restore(&shared)?;
        let sockets = open_sockets(&shared, &config)?;
        let kept = Arc::new(Kept::new(doc));
        let (prover, bootstrap, servers) = (config.prover, config.bootstrap, config.servers);
        shared.spawn(Life { shared: shared.clone(), prover, kept: kept.clone(), bootstrap, servers }.run());
        shared.spawn(watch::run(shared.clone(), kept));
        shared.spawn(fetch::run(shared.clone()));
        shared.spawn(disk::keeper::run(shared.clone()));
        shared.spawn(tasks::deliver::run(shared.clone()));
        Ok(Running { socket: config.socket, launch_socket: config.launch_socket, shared, sockets })
    }
}

fn open_sockets(shared: &Arc<Shared>, config: &AgentConfig) -> Result<Vec<Bound>, StartError> {
    let gate = Arc::new(Gate::for_this_process());
    let reserved = reserve(&config.socket)?;
    let fail = |e: std::io::Error| SocketPathError::io(&config.socket, "bind", &e);
    let listener = UnixListener::bind(&config.socket).map_err(fail)?;
    let workload = reserved.bound(0o777)?;
    let (launch_listener, launch) = launch::bind(&config.launch_socket)?;
    let serving = local::serve(shared.clone(), listener, gate.clone());
    // Not through `spawn`: it ends by itself once its connections have, and is waited for.
    shared.running.spawn(async move {
        if let Err(e) = serving.await {
            tracing::error!(error = %e, "the Workload API socket failed");
        }
    });
    shared.spawn(launch::serve(shared.clone(), launch_listener, gate));
    Ok(vec![workload, launch])
}

/// What was written down of an identity that is still good. One that is over is as good as none.
fn read_identity(disk: &DataDir, ports: &Ports) -> Result<Option<(IdentityDoc, Arc<Identity>)>, DiskError> {
    let Some(doc) = disk.read::<IdentityDoc>(IdentityDoc::FILE)? else { return Ok(None) };
    match Identity::restore(&doc.current, doc.reattestable) {
        Ok(identity) if identity.svid.not_after > ports.clock.now() => Ok(Some((doc, Arc::new(identity)))),
        Ok(identity) => {
            tracing::warn!(expired = %identity.svid.not_after, "the kept agent SVID has expired");
            Ok(None)
        }
        Err(e) => {
            let path = disk.path().join(IdentityDoc::FILE).display().to_string();
            Err(DiskError::Corrupt { path, why: e.to_string() })
        }
    }
}

/// With an identity, the bundle that was current when the agent stopped. To attest anew, the operator's: the kept one may
/// be of a server that is no more.
fn first_bundle(
    config: &AgentConfig,
    disk: &DataDir,
    has_identity: bool,
) -> Result<Option<Arc<TrustBundle>>, StartError> {
    let given = match &config.bootstrap {
        Bootstrap::Bundle(path) => Some(read_pem(path, config)?),
        Bootstrap::Insecure => None,
    };
    let kept = disk.read::<BundleDoc>(BUNDLE_FILE)?.map(|doc| TrustBundle::new(doc, &config.trust_domain));
    let kept = match kept {
        Some(Err(e)) => {
            tracing::warn!(error = %e, "the kept trust bundle cannot be used");
            None
        }
        Some(Ok(bundle)) => Some(Arc::new(bundle)),
        None => None,
    };
    Ok(if has_identity { kept.or(given) } else { given.or(kept) })
}

fn read_pem(path: &Path, config: &AgentConfig) -> Result<Arc<TrustBundle>, StartError> {
    let fail = |why: String| StartError::TrustBundle { path: path.into(), why };
    let pem = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    let bundle = TrustBundle::from_pem(&pem, &config.trust_domain);
    bundle.map(Arc::new).map_err(|e: BundleError| fail(e.to_string()))
}

impl Running {
    /// How the agent stands, now and after each change.
    pub fn status(&self) -> channel::Receiver<AgentStatus> {
        self.shared.status.subscribe()
    }

    /// Completes when the server's entries are here, or with the reason when they never will be.
    pub async fn ready(&self) -> Result<(), String> {
        let mut status = self.status();
        let done = |s: &AgentStatus| matches!(s, AgentStatus::Ready | AgentStatus::Lost { .. });
        match status.wait_for(done).await.as_deref() {
            Ok(AgentStatus::Lost { why }) => Err(why.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err("the agent has stopped".into()),
        }
    }

    /// The agent's SPIFFE ID, once it is attested.
    pub fn id(&self) -> Option<proto_types::SpiffeId> {
        self.shared.identity.get().map(|i| i.svid.spiffe_id.clone())
    }

    /// Entries known, SVIDs held, streams open: for metrics.
    pub fn sizes(&self) -> (usize, usize, usize) {
        self.shared.identities.sizes()
    }

    /// Stops: streams are told, connections end, everything is written down, the sockets are removed.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.running.close();
        tokio::select! {
            () = self.shared.running.wait() => {}
            () = self.shared.ports.clock.sleep(DRAIN) => tracing::warn!("some connections did not end in time"),
        }
        if let Err(e) = self.shared.tasks.save().await {
            tracing::error!(error = %e, "the tasks cannot be written down");
        }
        // A connection that would not end must not keep the next agent from this directory.
        self.shared.disk.release();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.sockets.clear();
    }
}
