//! A client that makes each call once and says what it heard: an agent over gRPC, a task at the token endpoint, an
//! operator on the admin socket. It believes any server: who the server is, is not what these tests are about.

use crate::{
    seen::Seen,
    world::{ENTRY, Hello, MINTED, NEIGHBOUR, ROLES, World},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use proto_tls::DangerAnyone;
use proto_types::CredentialInfo;
use proto_wire::{
    errand::v1::{
        EndTaskRequest, NewTaskJwtsvidRequest, NewTaskX509svidRequest, StartTaskRequest, node_client::NodeClient,
    },
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest, agent_client::AgentClient,
                attest_agent_request as ask, attest_agent_response as answer,
            },
            entry::v1::{BatchCreateEntryRequest, BatchUpdateEntryRequest, entry_client::EntryClient},
        },
        types::{self as wire, AttestationData, Spiffeid},
    },
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use std::{fs, net::SocketAddr, path::Path, sync::Arc};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A call that was not answered, or was refused.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer: what it did is unknown.
    #[error("no answer: {0}")]
    Broken(String),
    #[error("refused with {status}: {body}")]
    Refused { status: u16, body: String },
}

fn broken(error: impl std::fmt::Display) -> CallError {
    CallError::Broken(error.to_string())
}

impl From<tonic::Status> for CallError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => broken(status.message()),
            code => Self::Refused { status: 0, body: format!("{code:?}: {}", status.message()) },
        }
    }
}

/// A key and its certificate request.
struct Key {
    pkcs8: Vec<u8>,
    csr: Vec<u8>,
}

impl Key {
    fn new() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key is made");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&pair).expect("a request is made");
        Self { pkcs8: pair.serialize_der(), csr: csr.der().to_vec() }
    }
    fn with(self, chain: Vec<Vec<u8>>) -> Arc<ClientConfig> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        tls(Some((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8)))))
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn tls(identity: Option<Identity>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(DangerAnyone(provider)));
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("key and certificate fit"),
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

async fn connect(config: Arc<ClientConfig>, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config).connect(ServerName::IpAddress(addr.ip().into()), tcp).await
}

fn channel(config: &Arc<ClientConfig>, addr: SocketAddr) -> Channel {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let connector = tower::service_fn(move |_| {
        let config = config.clone();
        async move { connect(config, addr).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://errand-server").connect_with_connector_lazy(connector)
}

/// An attested agent; it keeps its identity over the server's deaths.
#[derive(Clone)]
pub struct Agent(Arc<ClientConfig>);

impl Agent {
    pub async fn attest(hello: &Hello) -> Result<Self, CallError> {
        let token = hello.join_token.clone().ok_or_else(|| broken("there is an agent already"))?;
        let key = Key::new();
        let step = ask::Step::Params(ask::Params {
            data: Some(AttestationData { r#type: "join_token".into(), payload: token.into_bytes() }),
            params: Some(AgentX509svidParams { csr: key.csr.clone() }),
        });
        let stream = tokio_stream::once(AttestAgentRequest { step: Some(step) });
        let mut agents = AgentClient::new(channel(&tls(None), hello.grpc));
        let mut answers = agents.attest_agent(stream).await?.into_inner();
        match answers.message().await?.and_then(|m| m.step) {
            Some(answer::Step::Result(result)) => {
                Ok(Self(key.with(result.svid.ok_or_else(|| broken("no SVID"))?.cert_chain)))
            }
            other => Err(broken(format!("{other:?}"))),
        }
    }

    /// The agent's connection to the server that answers there.
    pub fn at(&self, hello: &Hello) -> Connection {
        Connection(NodeClient::new(channel(&self.0, hello.grpc)))
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Connection(NodeClient<Channel>);

impl Connection {
    /// Starts a task with all roles.
    pub async fn start(&self, intent: &str) -> Result<Task, CallError> {
        let key = Key::new();
        let request = StartTaskRequest {
            entry_id: ENTRY.into(),
            intent: intent.into(),
            grants: ROLES.iter().chain([&NEIGHBOUR, &MINTED]).map(ToString::to_string).collect(),
            ttl_seconds: 3600,
            uid: 1000,
            csr: key.csr.clone(),
            ..StartTaskRequest::default()
        };
        let started = self.0.clone().start_task(request).await?.into_inner();
        let chain = started.svid.map(|s| s.cert_chain).unwrap_or_default();
        Ok(Task { id: started.task_id, subject_token: started.subject_token, tls: key.with(chain) })
    }

    /// A fresh X.509-SVID of a task; its serial is written down.
    pub async fn x509(&self, world: &World, task: &str) -> Result<(), CallError> {
        let request = NewTaskX509svidRequest { task_id: task.into(), csr: Key::new().csr };
        let svid =
            self.0.clone().new_task_x509svid(request).await?.into_inner().svid.ok_or_else(|| broken("no SVID"))?;
        let leaf = svid.cert_chain.first().ok_or_else(|| broken("no certificate"))?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(broken)?;
        let serial = leaf.raw_serial().iter().skip_while(|b| **b == 0);
        let id = serial.map(|b| format!("{b:02x}")).collect();
        world.seen.write(&Seen::Signed { kind: "x509".into(), id }).map_err(broken)
    }

    /// A JWT-SVID of a task; its `jti` is written down.
    pub async fn jwt(&self, world: &World, task: &str) -> Result<(), CallError> {
        let request = NewTaskJwtsvidRequest { task_id: task.into(), audience: vec!["a.example.org".into()] };
        let svid =
            self.0.clone().new_task_jwtsvid(request).await?.into_inner().svid.ok_or_else(|| broken("no SVID"))?;
        world.seen.write(&Seen::Signed { kind: "jwt".into(), id: jti(&svid.token)? }).map_err(broken)
    }

    /// Ends a task; what was acknowledged is written down.
    pub async fn end(&self, world: &World, task: &str) -> Result<(), CallError> {
        let request = EndTaskRequest { task_id: task.into(), reason: "completed".into() };
        self.0.clone().end_task(request).await?;
        world.seen.write(&Seen::Ended { task: task.into() }).map_err(broken)
    }
}

/// A started task, as its holder has it.
#[derive(Clone)]
pub struct Task {
    pub id: String,
    subject_token: String,
    tls: Arc<ClientConfig>,
}

/// What a token calls itself, believed as it stands.
fn jti(token: &str) -> Result<String, CallError> {
    let payload = token.split('.').nth(1).ok_or_else(|| broken("no token"))?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(broken)?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).map_err(broken)?;
    claims["jti"].as_str().map(str::to_string).ok_or_else(|| broken("a token without a jti"))
}

#[derive(serde::Deserialize)]
struct Token {
    access_token: String,
}

#[derive(serde::Deserialize)]
struct Granted {
    credential: CredentialInfo,
}

impl Task {
    /// One credential; it is written down before anything else is done with it.
    pub async fn exchange(&self, world: &World, hello: &Hello, role: &str) -> Result<CredentialInfo, CallError> {
        let body = self.ask(hello, &[("audience", role)], None).await?;
        self.granted(world, role, &body)
    }

    /// One credential for all requests with this `Idempotency-Key`.
    pub async fn exchange_as(
        &self,
        world: &World,
        hello: &Hello,
        role: &str,
        key: &str,
    ) -> Result<CredentialInfo, CallError> {
        let body = self.ask(hello, &[("audience", role)], Some(key)).await?;
        self.granted(world, role, &body)
    }

    /// An SSH certificate for this key, one line of OpenSSH.
    pub async fn certificate(&self, world: &World, hello: &Hello, key: &str) -> Result<CredentialInfo, CallError> {
        let details = serde_json::json!([{ "type": "urn:errand:key", "public_key": key }]).to_string();
        let body = self.ask(hello, &[("audience", MINTED), ("authorization_details", &details)], None).await?;
        self.granted(world, MINTED, &body)
    }

    /// A task token; its `jti` is written down.
    pub async fn token(&self, world: &World, hello: &Hello) -> Result<(), CallError> {
        let Token { access_token } = serde_json::from_slice(&self.ask(hello, &[], None).await?).map_err(broken)?;
        world.seen.write(&Seen::Signed { kind: "token".into(), id: jti(&access_token)? }).map_err(broken)
    }

    fn granted(&self, world: &World, role: &str, body: &[u8]) -> Result<CredentialInfo, CallError> {
        let Granted { credential } = serde_json::from_slice(body).map_err(broken)?;
        let name = credential.fields.get("user").and_then(|u| u.as_str()).unwrap_or_default().to_string();
        let (task, lease) = (self.id.clone(), credential.id.clone());
        world.seen.write(&Seen::Credential { task, lease, name, role: role.into() }).map_err(broken)?;
        Ok(credential)
    }

    /// One request to the token endpoint; the body of a 200.
    async fn ask(&self, hello: &Hello, more: &[(&str, &str)], key: Option<&str>) -> Result<Bytes, CallError> {
        let mut form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", self.subject_token.as_str()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ];
        form.extend(more);
        let escape = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let form: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let mut request = http::Request::post("/oauth2/token")
            .header(http::header::HOST, "errand.example.org")
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(Bytes::from(form.join("&")))).map_err(broken)?;
        let stream = connect(self.tls.clone(), hello.mtls).await.map_err(broken)?;
        converse(stream, request).await
    }
}

/// One request over one connection; the body of a 200.
async fn converse(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Full<Bytes>>,
) -> Result<Bytes, CallError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    drop(sender);
    let _ = driver.await;
    if status == http::StatusCode::OK {
        return Ok(body);
    }
    Err(CallError::Refused { status: status.as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
}

/// What an operator does over gRPC, on the admin socket.
fn operator(socket: &Path) -> Channel {
    let socket = socket.to_path_buf();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://errand-server").connect_with_connector_lazy(connector)
}

/// A join token that is good once.
pub async fn join_token(socket: &Path) -> Result<String, CallError> {
    let request = CreateJoinTokenRequest { ttl: 600, ..CreateJoinTokenRequest::default() };
    Ok(AgentClient::new(operator(socket)).create_join_token(request).await?.into_inner().value)
}

/// Gives the entry of the one workload's neighbour another lifetime of its SVIDs; makes it when it is not there. The revision
/// it came to.
pub async fn edit(socket: &Path, ttl: i32) -> Result<i64, CallError> {
    let id = |path: &str| Some(Spiffeid { trust_domain: "example.org".into(), path: path.into() });
    let entry = wire::Entry {
        id: "edited".into(),
        spiffe_id: id("/edited"),
        parent_id: id("/nobody"),
        selectors: vec![wire::Selector { r#type: "unix".into(), value: "uid:1".into() }],
        x509_svid_ttl: ttl,
        ..wire::Entry::default()
    };
    let mut client = EntryClient::new(operator(socket));
    let mask = wire::EntryMask { x509_svid_ttl: true, ..wire::EntryMask::default() };
    let update = BatchUpdateEntryRequest { entries: vec![entry.clone()], input_mask: Some(mask), output_mask: None };
    let updated = client.batch_update_entry(update).await?.into_inner().results.swap_remove(0);
    let (status, kept) = match updated.status.as_ref().map(|s| s.code) {
        Some(5) => {
            let create = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
            let created = client.batch_create_entry(create).await?.into_inner().results.swap_remove(0);
            (created.status, created.entry)
        }
        _ => (updated.status, updated.entry),
    };
    match (status.unwrap_or_default(), kept) {
        (status, Some(kept)) if status.code == 0 => Ok(kept.revision_number),
        (status, _) => Err(tonic::Status::new(status.code.into(), status.message).into()),
    }
}

/// `GET` over TLS, without a certificate.
pub async fn get(addr: SocketAddr, path: &str) -> Result<Bytes, CallError> {
    let request = http::Request::get(path).header(http::header::HOST, "errand.example.org").body(Full::default());
    let stream = connect(tls(None), addr).await.map_err(broken)?;
    converse(stream, request.map_err(broken)?).await
}

/// What `/readyz` answers.
pub async fn is_ready(metrics: SocketAddr) -> Result<(), CallError> {
    let request = http::Request::get("/readyz").header(http::header::HOST, "localhost").body(Full::default());
    let stream = TcpStream::connect(metrics).await.map_err(broken)?;
    converse(stream, request.map_err(broken)?).await.map(drop)
}

/// `GET` on the admin socket.
pub async fn admin(socket: &Path, path: &str) -> Result<Bytes, CallError> {
    let stream = UnixStream::connect(socket).await.map_err(broken)?;
    let request = http::Request::get(path).header(http::header::HOST, "localhost").body(Full::default());
    converse(stream, request.map_err(broken)?).await
}

/// Ends a credential, by an operator's word.
pub async fn revoke(socket: &Path, lease: &str) -> Result<(), CallError> {
    let stream = UnixStream::connect(socket).await.map_err(broken)?;
    let request = http::Request::post(format!("/v1/leases/{lease}/revoke"))
        .header(http::header::HOST, "localhost")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_static(b"{}")));
    converse(stream, request.map_err(broken)?).await.map(drop)
}

/// Exports the journal to where the checker reads it.
pub async fn export(world: &World, socket: &Path) -> Result<(), CallError> {
    let export = admin(socket, "/v1/journal/export").await?;
    fs::write(world.sources().journal, export).map_err(broken)
}
