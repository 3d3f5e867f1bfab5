//! Starting and stopping: the order in which the rooms come up, and in which they go down.
//!
//! Store, keys, service, listeners; and back: listeners, work under way, the last root, the store.

use crate::{
    admin::Operators,
    config::{ConfigProblem, ServerConfig},
    reload::declare,
    rotator::{KEYS, RotateError, Rotator},
    socket,
};
use arc_swap::ArcSwapOption;
use proto_attest::{
    VerifierPorts,
    join_token::{JoinTokens, TokenLookupError},
};
use proto_types::{Clock, Entropy, Epoch, Fut, JoinToken, Record, TargetDoc};
use rustls::crypto::CryptoProvider;
use server_api::{
    Api,
    listen::Serving,
    metrics::Metrics,
    tls::{self, Clients},
};
use server_authority::{KekError, Keyring, KeyringError, Realm};
use server_core::{
    clock::{self, Doubt},
    ports::{Commit, KindContext, Ledger, ReadError, SinkError, Target},
};
use server_policy::CedarCompiler;
use server_service::{Ports, Service, ServiceError, Settings};
use server_store::{OpenError, OpenOptions, PostgresError, PostgresStore, SqliteStore, Store, StorePlace};
use server_targets::Registry;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Time and randomness of the machine this server runs on.
#[derive(Clone)]
pub struct Machine {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

type WrapLedger = Box<dyn FnOnce(Arc<dyn Ledger>) -> Arc<dyn Ledger> + Send>;
type WrapTarget = Arc<dyn Fn(Arc<dyn Target>) -> Arc<dyn Target> + Send + Sync>;

/// Wraps ports from outside: faults, crash points, measurements. Empty in production.
#[derive(Default)]
pub struct Decorators {
    pub ledger: Option<WrapLedger>,
    pub target: Option<WrapTarget>,
    /// Called when the token endpoint has a credential and is about to answer.
    pub reply: Option<Arc<dyn Fn() + Send + Sync>>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<ConfigProblem>),
    #[error("the store: {0}")]
    Store(#[from] OpenError),
    #[error("the store: {0}")]
    Database(#[from] PostgresError),
    #[error("the store: {0}")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Clock(#[from] Doubt),
    #[error("the key-encryption key: {0}")]
    Kek(#[from] KekError),
    #[error("the signing keys: {0}")]
    Keys(#[from] KeyringError),
    #[error("the signing keys: {0}")]
    Rotate(#[from] RotateError),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot listen on {what}: {source}")]
    Listen { what: String, source: std::io::Error },
    #[error("[[journal.sink]] {name}: {source}")]
    Sink { name: String, source: SinkError },
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Where a started server answers.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub admin_socket: PathBuf,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub mtls: SocketAddr,
    pub public: SocketAddr,
    pub metrics: SocketAddr,
    pub issuer: String,
}

/// A server that answers on all its listeners.
pub struct Running {
    pub addresses: Addresses,
    pub service: Service,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// What of its configuration stays as it is until a restart.
    pub(crate) fixed: toml::Table,
    serving: CancellationToken,
    pub(crate) working: CancellationToken,
    tasks: TaskTracker,
    pub(crate) workers: TaskTracker,
}

/// The composition root.
pub struct Server;

impl Server {
    pub async fn start(config: ServerConfig, machine: Machine) -> Result<Running, StartError> {
        Self::start_with(config, machine, Decorators::default()).await
    }

    pub async fn start_with(
        config: ServerConfig,
        machine: Machine,
        decorators: Decorators,
    ) -> Result<Running, StartError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let store = open_store(&config, &machine).await?;
        // By a clock that leapt every key and every lease would be over. One that runs back stops what issues, no more.
        if let Err(doubt @ Doubt::Ahead { .. }) = clock::judge(machine.clock.now(), store.meta().clock_high_water) {
            return Err(doubt.into());
        }
        let ledger: Arc<dyn Ledger> = match decorators.ledger {
            Some(wrap) => wrap(store.clone()),
            None => store.clone(),
        };
        let (keyring, epoch) = open_keys(&config, &machine, store.as_ref()).await?;
        let identity: tls::Identity = Arc::new(ArcSwapOption::empty());
        let rotator = Arc::new(Rotator {
            keyring: keyring.clone(),
            ledger: ledger.clone(),
            store: store.clone(),
            epoch: tokio::sync::Mutex::new(epoch),
            clock: machine.clock.clone(),
            lifetimes: config.authority.lifetimes(),
            identity: identity.clone(),
            dns_names: dns_names(&config),
            provider: provider.clone(),
            made: Mutex::new(None),
        });
        // Before anything answers there is a key for every use.
        rotator.tick().await?;
        let bound = Bound::bind(&config).await?;
        let addresses = bound.addresses(&config);
        let registry = Arc::new(Registry::builtin());
        let kinds = kind_context(&config, &addresses.issuer, &machine, &store, &rotator);
        let ports = ports(&machine, &store, ledger, &keyring, &registry, kinds, decorators.target);
        let service = Service::load(ports, settings(&config, &addresses, &registry)).await?;
        let api = api(&config, &service, &store, &rotator, &registry)?.before_reply(decorators.reply);
        let running = Running {
            addresses,
            service: service.clone(),
            store: store.clone(),
            keyring: keyring.clone(),
            clock: machine.clock.clone(),
            metrics: api.metrics.clone(),
            fixed: config.fixed.clone(),
            serving: CancellationToken::new(),
            working: CancellationToken::new(),
            tasks: TaskTracker::new(),
            workers: TaskTracker::new(),
        };
        running.work(&rotator);
        running.forward(&config).await?;
        running.let_go(config.keep);
        declare(&config, &service).await?;
        if !config.replay.is_empty() {
            let ended = service.replay(&config.replay, None).await?;
            tracing::warn!(ended, of = config.replay.len(), "what lost records had ended was ended again");
        }
        running.serve(bound, &api, &config, identity, keyring, provider)?;
        let started = Record::new(machine.clock.now(), "server.started")
            .detail(serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "dev": config.dev }));
        service.ports().ledger.commit(Commit::of(started)).await.map_err(ServiceError::from)?;
        Ok(running)
    }
}

/// Opens the store that a configuration names. A server that runs on a file keeps everybody else out.
pub async fn open_store(config: &ServerConfig, machine: &Machine) -> Result<Arc<dyn Store>, StartError> {
    open_as(config, store_options(config, machine)).await
}

/// The store that is there, as it is.
pub async fn existing_store(config: &ServerConfig, machine: &Machine) -> Result<Arc<dyn Store>, StartError> {
    open_as(config, store_options(config, machine).as_it_is()).await
}

fn store_options(config: &ServerConfig, machine: &Machine) -> OpenOptions {
    OpenOptions::new(config.trust_domain.to_string(), config.dev, machine.entropy.clone(), machine.clock.clone())
        .accept_rollback(config.accept_rollback)
        .accept_clock(config.accept_clock)
        .remember_in(config.data_dir.join("store-seen.json"))
}

async fn open_as(config: &ServerConfig, options: OpenOptions) -> Result<Arc<dyn Store>, StartError> {
    Ok(match &config.store {
        StorePlace::Sqlite(path) => SqliteStore::open(path, options)?,
        StorePlace::Postgres(place) => PostgresStore::open(place.clone(), options).await?,
    })
}

async fn open_keys(
    config: &ServerConfig,
    machine: &Machine,
    store: &dyn Store,
) -> Result<(Arc<Keyring>, Epoch), StartError> {
    // The epoch first: keys that are newer than it are read again.
    let epoch = store.fence(KEYS).await?;
    let rows = store.authorities().await?;
    let kek = config.kek.open(rows.is_empty(), machine.entropy.as_ref(), machine.clock.clone()).await?;
    let realm = Realm {
        store_id: store.meta().store_id,
        trust_domain: config.trust_domain.clone(),
        refresh_hint: config.authority.refresh_hint,
    };
    let keys = Keyring::open(rows, kek, realm, machine.entropy.clone(), epoch).await?;
    Ok((Arc::new(keys), epoch))
}

fn dns_names(config: &ServerConfig) -> Vec<String> {
    let issuer = config.issuer.as_deref().and_then(|i| url::Url::parse(i).ok());
    let host = issuer.and_then(|u| u.domain().map(String::from));
    let mut names = config.dns_names.clone();
    names.extend(host.into_iter().chain(["localhost".to_string()]));
    names.dedup();
    names
}

/// What targets may use while they are built; for those that were applied, files in one directory only.
fn kind_context(
    config: &ServerConfig,
    issuer: &str,
    machine: &Machine,
    store: &Arc<dyn Store>,
    rotator: &Arc<Rotator>,
) -> KindContext {
    let own = rotator.clone();
    KindContext {
        store_id: store.meta().store_id,
        secrets_dir: config.secrets_dir.clone(),
        identity: Arc::new(move || {
            let made = own.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            made.as_ref().map(|m| m.pem.clone())
        }),
        entropy: machine.entropy.clone(),
        clock: machine.clock.clone(),
        ssh: rotator.keyring.clone(),
        tokens: rotator.keyring.clone(),
        issuer: issuer.to_string(),
    }
}

fn ports(
    machine: &Machine,
    store: &Arc<dyn Store>,
    ledger: Arc<dyn Ledger>,
    keyring: &Arc<Keyring>,
    registry: &Arc<Registry>,
    applied: KindContext,
    wrap: Option<WrapTarget>,
) -> Ports {
    // What stands in the server's own file may name any file.
    let configured = KindContext { secrets_dir: None, ..applied.clone() };
    let registry = registry.clone();
    let build = move |doc: &TargetDoc| {
        let context = if doc.origin == "config" { &configured } else { &applied };
        let built = registry.build(doc, context)?;
        Ok(wrap.as_ref().map_or(built.clone(), |wrap| wrap(built)))
    };
    Ports {
        ledger,
        feed: store.clone(),
        snapshots: store.clone(),
        archive: store.clone(),
        outlets: store.clone(),
        duties: store.clone(),
        minter: keyring.clone(),
        authorities: keyring.clone(),
        policies: Arc::new(CedarCompiler::default()),
        build_target: Arc::new(build),
        parse_targets: Arc::new(server_targets::parse_toml),
        clock: machine.clock.clone(),
        entropy: machine.entropy.clone(),
    }
}

fn settings(config: &ServerConfig, addresses: &Addresses, registry: &Registry) -> Settings {
    let host = url::Url::parse(&addresses.issuer).ok().and_then(|u| u.host_str().map(String::from));
    let host = host.unwrap_or_else(|| "localhost".into());
    Settings {
        trust_domain: config.trust_domain.clone(),
        token_endpoint: format!("https://{host}:{}/oauth2/token", addresses.http.port()),
        mtls_token_endpoint: format!("https://{host}:{}/oauth2/token", addresses.mtls.port()),
        issuer: addresses.issuer.clone(),
        ttls: config.authority.ttls(),
        agent_ttl: config.agent_ttl,
        operators: config.operators.clone(),
        shared_store: config.store.is_shared(),
        masked_json: serde_json::json!([registry.masks()]).to_string(),
    }
}

/// Join tokens, as the verifier may see them.
struct StoredTokens(Arc<dyn Store>);

impl JoinTokens for StoredTokens {
    fn find<'a>(&'a self, digest: &'a str) -> Fut<'a, Result<Option<JoinToken>, TokenLookupError>> {
        Box::pin(async move { self.0.join_token(digest).await.map_err(|e| TokenLookupError(e.to_string())) })
    }
}

fn api(
    config: &ServerConfig,
    service: &Service,
    store: &Arc<dyn Store>,
    rotator: &Arc<Rotator>,
    registry: &Arc<Registry>,
) -> Result<Api, StartError> {
    let ports =
        VerifierPorts { join_tokens: Arc::new(StoredTokens(store.clone())), entropy: service.ports().entropy.clone() };
    let mut verifiers = Vec::new();
    let mut wrong = Vec::new();
    for (kind, section) in &config.node_attestors {
        let Some(method) = proto_attest::method(kind) else { continue };
        match (method.verifier)(section, &ports) {
            Ok(verifier) => verifiers.push(verifier),
            Err(problems) => wrong.extend(
                problems
                    .into_iter()
                    .map(|p| ConfigProblem { at: format!("[[node_attestor]] {kind} {}", p.key), what: p.what }),
            ),
        }
    }
    if !wrong.is_empty() {
        return Err(StartError::Config(wrong));
    }
    let admin = Operators {
        service: service.clone(),
        rotator: rotator.clone(),
        registry: registry.clone(),
        store: store.clone(),
    };
    Ok(Api::new(service.clone(), verifiers, Arc::new(admin), Arc::new(Metrics::default())))
}

/// Makes so what the configuration file declares.
/// Every listener, bound before anything is served: an address that is taken is an error at start.
struct Bound {
    admin: tokio::net::UnixListener,
    grpc: TcpListener,
    http: TcpListener,
    mtls: TcpListener,
    public: TcpListener,
    metrics: TcpListener,
}

impl Bound {
    async fn bind(config: &ServerConfig) -> Result<Self, StartError> {
        let l = &config.listen;
        let tcp = |addr: SocketAddr| async move {
            TcpListener::bind(addr).await.map_err(|source| StartError::Listen { what: addr.to_string(), source })
        };
        let admin = socket::bind_private(&l.admin_socket)
            .map_err(|source| StartError::Listen { what: l.admin_socket.display().to_string(), source })?;
        Ok(Self {
            admin,
            grpc: tcp(l.grpc).await?,
            http: tcp(l.http).await?,
            mtls: tcp(l.mtls).await?,
            public: tcp(l.public).await?,
            metrics: tcp(l.metrics).await?,
        })
    }

    fn addresses(&self, config: &ServerConfig) -> Addresses {
        let of = |l: &TcpListener, given: SocketAddr| l.local_addr().unwrap_or(given);
        let public = of(&self.public, config.listen.public);
        let issuer = config.issuer.clone().unwrap_or_else(|| format!("https://localhost:{}", public.port()));
        Addresses {
            admin_socket: config.listen.admin_socket.clone(),
            grpc: of(&self.grpc, config.listen.grpc),
            http: of(&self.http, config.listen.http),
            mtls: of(&self.mtls, config.listen.mtls),
            public,
            metrics: of(&self.metrics, config.listen.metrics),
            issuer,
        }
    }
}

impl Running {
    fn serve(
        &self,
        bound: Bound,
        api: &Api,
        config: &ServerConfig,
        identity: tls::Identity,
        keyring: Arc<Keyring>,
        provider: Arc<CryptoProvider>,
    ) -> Result<(), StartError> {
        let serving = Serving { stop: self.serving.clone(), tasks: self.tasks.clone(), clock: self.clock.clone() };
        let tls = |clients| {
            tls::server_config(
                identity.clone(),
                keyring.clone(),
                config.trust_domain.clone(),
                clients,
                self.clock.clone(),
                provider.clone(),
            )
        };
        serving.unix(bound.admin, api.admin_router());
        serving.tls(bound.grpc, tls(Clients::Optional)?, api.node_router());
        serving.tls(bound.http, tls(Clients::Anonymous)?, api.https_router());
        serving.tls(bound.mtls, tls(Clients::Required)?, api.mtls_router());
        serving.tls(bound.public, tls(Clients::Anonymous)?, api.public_router());
        serving.plain(bound.metrics, api.metrics_router());
        Ok(())
    }

    /// The store itself: its space, and what an operator may ask of it while it runs.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Completes with the reason when nothing can be recorded any more: a disk that failed once is not tried again.
    pub async fn store_fails(&self) -> String {
        self.store.fails().await
    }

    /// The CA certificates that verify this server's listeners, PEM.
    pub fn ca_pem(&self) -> String {
        let bundle = self.service.ports().authorities.bundle();
        bundle.x509.iter().map(|der| tls::pem("CERTIFICATE", der)).collect()
    }

    /// Stops: no new connections, what is under way is finished (10 s at most), the last root is written.
    pub async fn stop(self) {
        self.serving.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.clock.sleep(Duration::from_secs(10)) => {}
        }
        let stopped = Record::new(self.clock.now(), "server.stopped");
        if let Err(error) = self.service.ports().ledger.commit(Commit::of(stopped)).await {
            tracing::warn!(%error, "the stop could not be recorded");
        }
        self.working.cancel();
        self.workers.close();
        tokio::select! {
            () = self.workers.wait() => {}
            () = self.clock.sleep(Duration::from_secs(5)) => {}
        }
        if let Err(error) = self.store.write_root(Some(self.keyring.as_ref())).await {
            tracing::warn!(%error, "the journal's last root could not be written");
        }
        let _ = std::fs::remove_file(&self.addresses.admin_socket);
    }
}
