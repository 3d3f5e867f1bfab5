//! A scripted server: the services an agent calls, over TLS 1.3, with a CA of its own. It can go away and come back.

use crate::{ca::Ca, unimplemented::unimplemented_calls};
use futures_util::StreamExt as _;
use prost::Message as _;
use proto_types::{Clock, Timestamp};
use proto_wire::{
    errand::v1::{
        EndTaskRequest, EndTaskResponse, NewTaskJwtsvidRequest, NewTaskJwtsvidResponse, NewTaskX509svidRequest,
        NewTaskX509svidResponse, ServerInfo, StartTaskRequest, StartTaskResponse, TaskEnded, WatchRequest,
        WatchResponse, node_server::{Node, NodeServer},
    },
    spire::api::{
        server::{
            agent::v1::{self as agent, agent_server::{Agent, AgentServer}},
            bundle::v1::{self as bundle, bundle_server::{Bundle, BundleServer}},
            svid::v1::{self as svid, svid_server::{Svid, SvidServer}},
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
    sync::{Arc, Mutex, MutexGuard},
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
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

pub const TOKEN: &str = "join-me";
pub const AGENT: &str = "spiffe://example.org/spire/agent/join_token/one";
pub const SVID_TTL: Duration = Duration::from_secs(3600);
pub const AGENT_TTL: Duration = Duration::from_secs(24 * 3600);
pub const ISSUER: &str = "https://errand.example.org";

type Watcher = mpsc::UnboundedSender<Result<WatchResponse, Status>>;

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
    watchers: Vec<Watcher>,
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
    fn now(&self) -> Timestamp {
        self.clock.now()
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
        script.watchers.drain(..).for_each(|w| _ = w.send(Err(refused(wire::permission_denied_details::Reason::AgentBanned))));
    }

    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let mut script = self.script();
        if script.banned {
            return Err(refused(wire::permission_denied_details::Reason::AgentBanned));
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
    let any = prost_types::Any { type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".into(), value };
    let details = Envelope { code: 7, message: "no".into(), details: vec![any] }.encode_to_vec();
    Status::with_details(tonic::Code::PermissionDenied, "no", details.into())
}

pub struct FakeServer {
    pub state: Arc<State>,
    pub addr: SocketAddr,
    tls: TlsAcceptor,
    runtime: Option<Runtime>,
}

impl FakeServer {
    pub fn start(clock: &FakeClock) -> Self {
        Self::start_as(clock, "spiffe://example.org/spire/server")
    }

    pub fn start_as(clock: &FakeClock, id: &str) -> Self {
        let ca = Ca::new(clock.now());
        let tls = TlsAcceptor::from(Arc::new(tls(&ca, id, clock)));
        let state = Arc::new(State { clock: clock.clone(), ca, script: Mutex::default() });
        let mut server = Self { state, addr: ([127, 0, 0, 1], 0).into(), tls, runtime: None };
        server.come_back();
        server
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
        let (state, tls) = (self.state.clone(), self.tls.clone());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(std).unwrap();
            let incoming = futures_util::stream::unfold((listener, tls), |(listener, tls)| async move {
                loop {
                    let Ok((tcp, _)) = listener.accept().await else { continue };
                    if let Ok(stream) = tls.accept(tcp).await {
                        return Some((Ok::<_, io::Error>(Conn(stream)), (listener, tls)));
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

fn tls(ca: &Ca, id: &str, clock: &FakeClock) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der.clone())).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (cert, key) = ca.server(id, clock.now());
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

#[derive(Clone)]
struct Service(Arc<State>);
type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Service {
    type AttestAgentStream = Answers<agent::AttestAgentResponse>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<agent::AttestAgentRequest>>,
    ) -> Answer<Self::AttestAgentStream> {
        use agent::{attest_agent_request::Step, attest_agent_response as out};
        let first = request.into_inner().message().await?.and_then(|m| m.step);
        let Some(Step::Params(params)) = first else { return Err(Status::invalid_argument("params first")) };
        let data = params.data.unwrap_or_default();
        let mut script = self.0.script();
        if script.token_spent || data.r#type != "join_token" || data.payload != TOKEN.as_bytes() {
            return Err(Status::permission_denied("the token is unknown, spent or expired"));
        }
        script.token_spent = true;
        script.attested += 1;
        let csr = params.params.unwrap_or_default().csr;
        let svid = self.0.ca.svid(AGENT, &csr, self.0.now(), AGENT_TTL);
        let result = out::Result { svid: Some(svid), reattestable: false };
        let message = agent::AttestAgentResponse { step: Some(out::Step::Result(result)) };
        Ok(Response::new(Box::pin(futures_util::stream::iter([Ok(message)]))))
    }

    async fn renew_agent(&self, request: Request<agent::RenewAgentRequest>) -> Answer<agent::RenewAgentResponse> {
        self.0.check(&request)?;
        self.0.script().renewed += 1;
        let csr = request.into_inner().params.unwrap_or_default().csr;
        let svid = Some(self.0.ca.svid(AGENT, &csr, self.0.now(), AGENT_TTL));
        Ok(Response::new(agent::RenewAgentResponse { svid }))
    }

    unimplemented_calls! {
        count_agents(agent::CountAgentsRequest) -> agent::CountAgentsResponse;
        list_agents(agent::ListAgentsRequest) -> agent::ListAgentsResponse;
        get_agent(agent::GetAgentRequest) -> wire::Agent;
        delete_agent(agent::DeleteAgentRequest) -> ();
        ban_agent(agent::BanAgentRequest) -> ();
        create_join_token(agent::CreateJoinTokenRequest) -> wire::JoinToken;
        post_status(agent::PostStatusRequest) -> agent::PostStatusResponse;
    }
}

#[tonic::async_trait]
impl Bundle for Service {
    async fn get_bundle(&self, _: Request<bundle::GetBundleRequest>) -> Answer<wire::Bundle> {
        Ok(Response::new(self.0.ca.bundle(1)))
    }
    unimplemented_calls! {
        count_bundles(bundle::CountBundlesRequest) -> bundle::CountBundlesResponse;
        append_bundle(bundle::AppendBundleRequest) -> wire::Bundle;
        publish_jwt_authority(bundle::PublishJwtAuthorityRequest) -> bundle::PublishJwtAuthorityResponse;
        publish_wit_authority(bundle::PublishWitAuthorityRequest) -> bundle::PublishWitAuthorityResponse;
        list_federated_bundles(bundle::ListFederatedBundlesRequest) -> bundle::ListFederatedBundlesResponse;
        get_federated_bundle(bundle::GetFederatedBundleRequest) -> wire::Bundle;
        batch_create_federated_bundle(bundle::BatchCreateFederatedBundleRequest)
            -> bundle::BatchCreateFederatedBundleResponse;
        batch_update_federated_bundle(bundle::BatchUpdateFederatedBundleRequest)
            -> bundle::BatchUpdateFederatedBundleResponse;
        batch_set_federated_bundle(bundle::BatchSetFederatedBundleRequest)
            -> bundle::BatchSetFederatedBundleResponse;
        batch_delete_federated_bundle(bundle::BatchDeleteFederatedBundleRequest)
            -> bundle::BatchDeleteFederatedBundleResponse;
    }
}

#[tonic::async_trait]
impl Svid for Service {
    async fn batch_new_x509svid(
        &self,
        request: Request<svid::BatchNewX509svidRequest>,
    ) -> Answer<svid::BatchNewX509svidResponse> {
        self.0.check(&request)?;
        let params = request.into_inner().params;
        let mut script = self.0.script();
        script.svids += params.len() as u32;
        let one = |p: svid::NewX509svidParams| {
            let entry = script.entries.iter().find(|e| e.id == p.entry_id);
            let svid = entry.map(|e| {
                let ttl = if e.x509_svid_ttl > 0 { Duration::from_secs(e.x509_svid_ttl as u64) } else { SVID_TTL };
                self.0.ca.svid(&id_of(e), &p.csr, self.0.now(), ttl)
            });
            svid::batch_new_x509svid_response::Result { status: None, svid }
        };
        let results = params.into_iter().map(one).collect();
        Ok(Response::new(svid::BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(&self, request: Request<svid::NewJwtsvidRequest>) -> Answer<svid::NewJwtsvidResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let mut script = self.0.script();
        script.jwts += 1;
        let entry = script.entries.iter().find(|e| e.id == request.entry_id);
        let id = id_of(entry.ok_or_else(|| Status::not_found("no such entry"))?);
        Ok(Response::new(svid::NewJwtsvidResponse { svid: Some(jwt(&self.0, &id, &request.audience)) }))
    }

    unimplemented_calls! {
        mint_x509svid(svid::MintX509svidRequest) -> svid::MintX509svidResponse;
        mint_jwtsvid(svid::MintJwtsvidRequest) -> svid::MintJwtsvidResponse;
        mint_witsvid(svid::MintWitsvidRequest) -> svid::MintWitsvidResponse;
        batch_new_witsvid(svid::BatchNewWitsvidRequest) -> svid::BatchNewWitsvidResponse;
        new_downstream_x509ca(svid::NewDownstreamX509caRequest) -> svid::NewDownstreamX509caResponse;
    }
}

fn id_of(e: &wire::Entry) -> String {
    let id = e.spiffe_id.clone().unwrap_or_default();
    format!("spiffe://{}{}", id.trust_domain, id.path)
}

fn jwt(state: &State, id: &str, audience: &[String]) -> wire::Jwtsvid {
    let ttl = Duration::from_secs(300);
    wire::Jwtsvid {
        token: state.ca.jwt(id, audience, state.now(), ttl),
        id: None,
        expires_at: state.now().plus(ttl).as_secs(),
        issued_at: state.now().as_secs(),
        hint: String::new(),
    }
}

#[tonic::async_trait]
impl Node for Service {
    type WatchStream = Answers<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        self.0.check(&request)?;
        let (tx, rx) = mpsc::unbounded_channel();
        let mut script = self.0.script();
        let first = WatchResponse {
            position: 1,
            reset: true,
            entries: script.entries.clone(),
            bundle: Some(self.0.ca.bundle(1)),
            live_task_ids: script.tasks.keys().cloned().collect(),
            server: Some(ServerInfo {
                trust_domain: "example.org".into(),
                issuer: ISSUER.into(),
                token_endpoint: format!("{ISSUER}/oauth2/token"),
                mtls_token_endpoint: "https://mtls.example.org/oauth2/token".into(),
                ca_pem: self.0.ca.pem.clone(),
                masked_json: "[]".into(),
            }),
            ..Default::default()
        };
        _ = tx.send(Ok(first));
        script.watchers.push(tx);
        Ok(Response::new(tokio_stream::wrappers::UnboundedReceiverStream::new(rx).boxed()))
    }

    async fn start_task(&self, request: Request<StartTaskRequest>) -> Answer<StartTaskResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let mut script = self.0.script();
        let entry = script.entries.iter().find(|e| e.id == request.entry_id);
        let workload = id_of(entry.ok_or_else(|| Status::not_found("no such entry"))?);
        let mut random = [0u8; 10];
        random[0] = script.started.len() as u8;
        let millis = self.0.now().as_millis() as u64;
        let task_id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string();
        let id = format!("{workload}/task/{task_id}");
        let ends_at = self.0.now().plus(Duration::from_secs(request.ttl_seconds.max(60).into()));
        let ttl = script.task_ttl.unwrap_or(Duration::from_secs(300));
        let svid = Some(self.0.ca.svid(&id, &request.csr, self.0.now(), ttl));
        script.tasks.insert(task_id.clone(), workload);
        script.started.push(request);
        let subject_token = jwt(&self.0, &id, &[ISSUER.into()]).token;
        Ok(Response::new(StartTaskResponse { task_id, ends_at: ends_at.as_millis(), svid, subject_token }))
    }

    async fn new_task_x509svid(&self, request: Request<NewTaskX509svidRequest>) -> Answer<NewTaskX509svidResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let script = self.0.script();
        let workload = script.tasks.get(&request.task_id).ok_or_else(|| Status::not_found("the task is over"))?;
        let ttl = script.task_ttl.unwrap_or(Duration::from_secs(300));
        let id = format!("{workload}/task/{}", request.task_id);
        let svid = Some(self.0.ca.svid(&id, &request.csr, self.0.now(), ttl));
        Ok(Response::new(NewTaskX509svidResponse { svid }))
    }

    async fn new_task_jwtsvid(&self, request: Request<NewTaskJwtsvidRequest>) -> Answer<NewTaskJwtsvidResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let script = self.0.script();
        let workload = script.tasks.get(&request.task_id).ok_or_else(|| Status::not_found("the task is over"))?;
        let svid = jwt(&self.0, &format!("{workload}/task/{}", request.task_id), &request.audience);
        Ok(Response::new(NewTaskJwtsvidResponse { svid: Some(svid) }))
    }

    async fn end_task(&self, request: Request<EndTaskRequest>) -> Answer<EndTaskResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let mut script = self.0.script();
        script.tasks.remove(&request.task_id).ok_or_else(|| Status::not_found("no such task"))?;
        script.ended.push((request.task_id, request.reason));
        Ok(Response::new(EndTaskResponse { open_leases: 2 }))
    }
}
