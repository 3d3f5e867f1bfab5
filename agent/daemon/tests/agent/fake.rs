//! A scripted server: the services an agent calls, over TLS 1.3, with a CA of its own. It can go away and come back.

use crate::{ca::Ca, services::Service};
use prost::Message as _;
use proto_types::{Clock, Timestamp};
use proto_wire::{
    errand::v1::{StartTaskRequest, TaskEnded, WatchResponse, node_server::NodeServer},
    spire::api::{
        server::{
            agent::v1::agent_server::AgentServer, bundle::v1::bundle_server::BundleServer,
            svid::v1::svid_server::SvidServer,
        },
        types as wire,
    },
};
use rustls::{ServerConfig, server::WebPkiClientVerifier, time_provider::TimeProvider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use testkit::fakes::FakeClock;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::{Request, Status, transport::server::Connected};

pub const TOKEN: &str = "join-me";
pub const AGENT: &str = "spiffe://example.org/spire/agent/join_token/one";
pub const SVID_TTL: Duration = Duration::from_secs(3600);
pub const AGENT_TTL: Duration = Duration::from_secs(24 * 3600);
const SERVER: &str = "spiffe://example.org/spire/server";
/// As real servers have it.
const BACKDATE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);
pub const ISSUER: &str = "https://errand.example.org";

pub type Watcher = mpsc::UnboundedSender<Result<WatchResponse, Status>>;

#[derive(Default)]
pub struct Script {
    pub entries: Vec<wire::Entry>,
    pub token_spent: bool,
    pub banned: bool,
    pub attested: u32,
    pub renewed: u32,
    pub svids: u32,
    pub jwts: u32,
    /// Serials of client certificates that calls were made with.
    pub serials: Vec<String>,
    pub started: Vec<StartTaskRequest>,
    pub tasks: HashMap<String, String>,
    pub ended: Vec<(String, String)>,
    pub task_ttl: Option<Duration>,
    /// When the agent's SVID ends.
    pub agent_until: Option<Timestamp>,
    pub watchers: Vec<Watcher>,
    pub journal: Journal,
    /// What is answered to whoever wants something that would have to be recorded.
    pub unrecorded: Option<String>,
}

/// The server's journal, by its leaves.
#[derive(Clone, Default)]
pub struct Journal {
    pub store_id: String,
    pub epoch: u64,
    pub leaves: Vec<[u8; 32]>,
}

pub struct State {
    pub clock: FakeClock,
    pub ca: Ca,
    script: Mutex<Script>,
}

impl State {
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether anything can be recorded.
    pub fn records(&self) -> Result<(), Status> {
        self.script().unrecorded.clone().map_or(Ok(()), |why| Err(Status::unavailable(why)))
    }

    /// Sends a change to every agent that watches.
    pub fn push(&self, message: WatchResponse) {
        self.script().watchers.retain(|w| w.send(Ok(message.clone())).is_ok());
    }
    pub fn create(&self, entry: wire::Entry) {
        self.script().entries.push(entry.clone());
        self.push(WatchResponse { entries: vec![entry], ..Default::default() });
    }
    pub fn delete(&self, id: &str) {
        self.script().entries.retain(|e| e.id != id);
        self.push(WatchResponse { removed_entry_ids: vec![id.into()], ..Default::default() });
    }
    pub fn end_task(&self, id: &str, reason: &str) {
        self.script().tasks.remove(id);
        let ended = TaskEnded { task_id: id.into(), reason: reason.into() };
        self.push(WatchResponse { ended_tasks: vec![ended], ..Default::default() });
    }
    /// Bans the node: its watch breaks and every call is refused.
    pub fn ban(&self) {
        let mut script = self.script();
        script.banned = true;
        script
            .watchers
            .drain(..)
            .for_each(|w| _ = w.send(Err(refused(wire::permission_denied_details::Reason::AgentBanned))));
    }

    pub fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let mut script = self.script();
        if script.banned {
            return Err(refused(wire::permission_denied_details::Reason::AgentBanned));
        }
        // By its own clock at each call: a connection may outlive the certificate that opened it.
        if script.agent_until.is_some_and(|until| until <= self.now()) {
            return Err(refused(wire::permission_denied_details::Reason::AgentExpired));
        }
        let Some(Some(serial)) = request.extensions().get::<Option<String>>().cloned() else {
            return Err(refused(wire::permission_denied_details::Reason::AgentNotAttested));
        };
        if script.serials.last() != Some(&serial) {
            script.serials.push(serial);
        }
        Ok(())
    }
}

/// A refusal in SPIRE's form.
fn refused(reason: wire::permission_denied_details::Reason) -> Status {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Envelope {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    let value = wire::PermissionDeniedDetails { reason: reason as i32 }.encode_to_vec();
    let any =
        prost_types::Any { type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".into(), value };
    let details = Envelope { code: 7, message: "no".into(), details: vec![any] }.encode_to_vec();
    Status::with_details(tonic::Code::PermissionDenied, "no", details.into())
}

pub struct FakeServer {
    pub state: Arc<State>,
    pub addr: SocketAddr,
    /// Handshakes that came to their end.
    pub taken: Arc<AtomicUsize>,
    tls: TlsAcceptor,
    runtime: Option<Runtime>,
}

impl FakeServer {
    pub fn start(clock: &FakeClock) -> Self {
        Self::start_as(clock, SERVER)
    }

    pub fn start_as(clock: &FakeClock, id: &str) -> Self {
        Self::start_with(clock, id, BACKDATE, DAY * 5 * 365)
    }

    /// One whose certificate is so old.
    pub fn start_since(clock: &FakeClock, age: Duration) -> Self {
        Self::start_with(clock, SERVER, age, DAY * 5 * 365)
    }

    /// One whose certificate was just made, and lasts so long.
    pub fn start_for(clock: &FakeClock, life: Duration) -> Self {
        Self::start_with(clock, SERVER, BACKDATE, life)
    }

    fn start_with(clock: &FakeClock, id: &str, age: Duration, life: Duration) -> Self {
        let ca = Ca::new(clock.now());
        let tls = TlsAcceptor::from(Arc::new(tls(&ca, ca.server(id, clock.now().minus(age), age + life), clock)));
        let state = Arc::new(State { clock: clock.clone(), ca, script: Mutex::default() });
        Self::with(state, tls)
    }

    fn with(state: Arc<State>, tls: TlsAcceptor) -> Self {
        let (addr, taken) = (([127, 0, 0, 1], 0).into(), Arc::default());
        let mut server = Self { state, addr, taken, tls, runtime: None };
        server.come_back();
        server
    }

    /// One more that knows what this one knows, elsewhere.
    pub fn another(&self) -> Self {
        Self::with(self.state.clone(), self.tls.clone())
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Breaks every connection and listens no more.
    pub fn go_away(&mut self) {
        self.state.script().watchers.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn come_back(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let std = std::net::TcpListener::bind(self.addr).unwrap();
        std.set_nonblocking(true).unwrap();
        self.addr = std.local_addr().unwrap();
        let (state, tls, taken) = (self.state.clone(), self.tls.clone(), self.taken.clone());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(std).unwrap();
            let incoming = futures_util::stream::unfold((listener, tls, taken), |(listener, tls, taken)| async move {
                loop {
                    let Ok((tcp, _)) = listener.accept().await else { continue };
                    if let Ok(stream) = tls.accept(tcp).await {
                        taken.fetch_add(1, Ordering::SeqCst);
                        return Some((Ok::<_, io::Error>(Conn(stream)), (listener, tls, taken)));
                    }
                }
            });
            let service = Service(state);
            let served = tonic::transport::Server::builder()
                .add_service(AgentServer::new(service.clone()))
                .add_service(BundleServer::new(service.clone()))
                .add_service(SvidServer::new(service.clone()))
                .add_service(NodeServer::new(service))
                .serve_with_incoming(incoming);
            served.await.unwrap();
        });
        self.runtime = Some(runtime);
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.go_away();
    }
}

#[derive(Debug)]
struct TlsTime(FakeClock);
impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now().as_millis() as u64)))
    }
}

fn tls(ca: &Ca, (cert, key): (Vec<u8>, Vec<u8>), clock: &FakeClock) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der.clone())).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(TlsTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![cert.into()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

struct Conn(TlsStream<TcpStream>);

impl Connected for Conn {
    /// The serial of the client's certificate.
    type ConnectInfo = Option<String>;
    fn connect_info(&self) -> Option<String> {
        use x509_parser::prelude::FromDer as _;
        let der = self.0.get_ref().1.peer_certificates()?.first()?;
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        Some(cert.raw_serial_as_string())
    }
}
impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}
impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, b)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
