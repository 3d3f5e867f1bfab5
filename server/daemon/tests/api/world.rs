//! One server in a temporary directory, and whoever calls it. Callers believe any server: who it is, is not the question here.

use crate::wire::Wire;
use proto_tls::DangerAnyone;
use proto_types::{Fut, OsEntropy, Timestamp};
use proto_wire::spire::api::{
    server::{
        agent::v1::{
            AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, CreateJoinTokenRequest,
            agent_client::AgentClient, attest_agent_request as ask, attest_agent_response as answer,
        },
        entry::v1::{BatchCreateEntryRequest, batch_create_entry_response as created, entry_client::EntryClient},
        svid::v1::{BatchNewX509svidRequest, MintX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types::{AttestationData, Entry, Selector, Spiffeid, X509svid},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use server_core::journal::Ending;
use server_daemon::{Decorators, Machine, Running, Server, ServerConfig};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use testkit::fakes::FakeClock;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

pub const TD: &str = "example.org";
/// When every test begins.
pub const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);
/// The longest anything may take that is not measured more sharply.
pub const SOON: Duration = Duration::from_secs(15);

pub struct World {
    dir: TempDir,
    pub clock: FakeClock,
    pub server: Running,
}

/// A key with the certificate that was issued for it.
#[derive(Clone)]
pub struct Identity {
    pub id: Spiffeid,
    chain: Vec<Vec<u8>>,
    pkcs8: Vec<u8>,
}

impl Identity {
    pub fn new(svid: X509svid, key: &KeyPair) -> Self {
        Self { id: svid.id.unwrap(), chain: svid.cert_chain, pkcs8: key.serialize_der() }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub enum Who {
    /// On the admin socket, with the uid of the test.
    Local,
    /// By TLS without a certificate.
    Nobody,
    With(Identity),
}

pub fn id(path: &str) -> Spiffeid {
    Spiffeid { trust_domain: TD.into(), path: path.into() }
}

pub fn selector(text: &str) -> Selector {
    let (kind, value) = text.split_once(':').unwrap();
    Selector { r#type: kind.into(), value: value.into() }
}

/// An entry below `/spire/agent/none`, for the user 1000.
pub fn entry(path: &str) -> Entry {
    Entry {
        spiffe_id: Some(id(path)),
        parent_id: Some(id("/spire/agent/none")),
        selectors: vec![selector("unix:uid:1000")],
        ..Entry::default()
    }
}

/// A key and a request for it that names `path`, when there is one.
pub fn csr(path: Option<&str>) -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let uri = path.map(|p| SanType::URI(format!("spiffe://{TD}{p}").try_into().unwrap()));
    params.subject_alt_names = uri.into_iter().collect();
    let der = params.serialize_request(&key).unwrap().der().to_vec();
    (key, der)
}

impl World {
    /// A server whose operator is the user that runs the test.
    pub async fn start() -> Self {
        Self::with_operator(nix::unistd::geteuid().as_raw()).await
    }

    /// A server whose only operator has this uid.
    pub async fn with_operator(uid: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        Self::in_dir(dir, uid, "", FakeClock::at(NOW)).await
    }

    /// A server with more in its configuration, `DIR` being its directory.
    pub async fn configured(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        Self::in_dir(dir, nix::unistd::geteuid().as_raw(), more, FakeClock::at(NOW)).await
    }

    /// Stops in good order and starts again on the same store.
    pub async fn again(self, more: &str) -> Self {
        self.server.stop().await;
        Self::in_dir(self.dir, nix::unistd::geteuid().as_raw(), more, self.clock).await
    }

    /// Starts on a store that went back, which is accepted; what lost records had ended is ended again.
    pub async fn gone_back(dir: TempDir, more: &str, clock: FakeClock, replay: Vec<Ending>) -> Self {
        let config = Self::config(&dir, nix::unistd::geteuid().as_raw(), more);
        Self::run(dir, ServerConfig { accept_rollback: true, replay, ..config }, clock).await
    }

    /// Stops in good order; what is left is its directory.
    pub async fn leave(self) -> TempDir {
        self.server.stop().await;
        self.dir
    }

    /// A server on a store that others share, with the keys and by the clock of `another`.
    pub async fn sharing(store: &str, more: &str, another: Option<&World>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let clock = another.map_or_else(|| FakeClock::at(NOW), |w| w.clock.clone());
        if let Some(another) = another {
            std::fs::copy(another.at("kek"), dir.path().join("kek")).unwrap();
        }
        Self::in_dir(dir, nix::unistd::geteuid().as_raw(), &format!("{store}{more}"), clock).await
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn in_dir(dir: TempDir, uid: u32, more: &str, clock: FakeClock) -> Self {
        let config = Self::config(&dir, uid, more);
        Self::run(dir, config, clock).await
    }

    fn config(dir: &TempDir, uid: u32, more: &str) -> ServerConfig {
        let at = dir.path().display();
        let more = more.replace("DIR", &at.to_string());
        let any = "listen = \"127.0.0.1:0\"";
        let text = format!(
            "[server]\ntrust_domain = \"{TD}\"\ndata_dir = \"{at}/data\"\n\
             [admin]\nsocket = \"{at}/server.sock\"\noperators = {{ \"{uid}\" = \"kim\" }}\n\
             [authority]\nkek_file = \"{at}/kek\"\n[grpc]\n{any}\n[http]\nissuer = \"https://errand.example.org\"\n{any}\n\
             [http.mtls]\n{any}\n[http.public]\n{any}\n[telemetry]\nmetrics_listen = \"127.0.0.1:0\"\n{more}"
        );
        std::fs::write(dir.path().join("server.toml"), &text).unwrap();
        ServerConfig::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    async fn run(dir: TempDir, config: ServerConfig, clock: FakeClock) -> Self {
        let machine = Machine { clock: Arc::new(clock.clone()), entropy: Arc::new(OsEntropy) };
        let server = Server::start_with(config, machine, Decorators::default()).await.unwrap();
        Self { dir, clock, server }
    }

    /// Records there are.
    pub fn records(&self) -> u64 {
        *self.server.service.ports().feed.size().borrow()
    }

    /// A channel to the services that this caller uses.
    pub fn channel(&self, who: &Who) -> Channel {
        let (to, who) = (self.place(), who.clone());
        let connector = tower::service_fn(move |_| {
            let (to, who) = (to.clone(), who.clone());
            async move { to.open(&who).await.map(hyper_util::rt::TokioIo::new) }
        });
        Endpoint::from_static("http://errand-server").connect_with_connector_lazy(connector)
    }

    /// The same without a client: bytes in, bytes out.
    pub async fn wire(&self, who: &Who) -> Wire {
        Wire::on(self.place().open(who).await.unwrap()).await
    }

    fn place(&self) -> Place {
        let addresses = &self.server.addresses;
        Place { grpc: addresses.grpc, socket: addresses.admin_socket.clone() }
    }

    pub fn entries(&self) -> EntryClient<Channel> {
        EntryClient::new(self.channel(&Who::Local))
    }
    pub fn agents(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel(&Who::Local))
    }

    /// Creates entries that must be good; answers their ids.
    pub async fn create(&self, entries: Vec<Entry>) -> Vec<String> {
        let results = self.try_create(entries).await;
        let one = |r: created::Result| {
            assert_eq!(r.status.as_ref().unwrap().code, 0, "{r:?}");
            r.entry.unwrap().id
        };
        results.into_iter().map(one).collect()
    }
    pub async fn try_create(&self, entries: Vec<Entry>) -> Vec<created::Result> {
        let request = BatchCreateEntryRequest { entries, output_mask: None };
        self.entries().batch_create_entry(request).await.unwrap().into_inner().results
    }

    pub async fn token(&self) -> String {
        let request = CreateJoinTokenRequest { ttl: 600, ..CreateJoinTokenRequest::default() };
        self.agents().create_join_token(request).await.unwrap().into_inner().value
    }

    /// Attests with this token.
    pub async fn attest(&self, token: &[u8]) -> Result<Identity, Status> {
        let (key, csr) = csr(None);
        let step = ask::Step::Params(ask::Params {
            data: Some(AttestationData { r#type: "join_token".into(), payload: token.to_vec() }),
            params: Some(AgentX509svidParams { csr }),
        });
        let stream = tokio_stream::once(AttestAgentRequest { step: Some(step) });
        let mut client = AgentClient::new(self.channel(&Who::Nobody));
        let mut answers = client.attest_agent(stream).await?.into_inner();
        match answers.message().await? {
            Some(AttestAgentResponse { step: Some(answer::Step::Result(done)) }) => {
                Ok(Identity::new(done.svid.unwrap(), &key))
            }
            other => panic!("neither an SVID nor a refusal: {other:?}"),
        }
    }
    pub async fn agent(&self) -> Identity {
        self.attest(self.token().await.as_bytes()).await.unwrap()
    }

    /// How an agent's request for an SVID of an entry is answered: a code of gRPC.
    pub async fn x509(&self, agent: &Identity, entry: &str) -> i32 {
        let params = vec![NewX509svidParams { entry_id: entry.into(), csr: csr(None).1 }];
        let mut client = SvidClient::new(self.channel(&Who::With(agent.clone())));
        let answer = client.batch_new_x509svid(BatchNewX509svidRequest { params }).await.unwrap().into_inner();
        answer.results[0].status.as_ref().unwrap().code
    }

    /// An SVID that an operator mints.
    pub async fn workload(&self, path: &str) -> Identity {
        let (key, csr) = csr(Some(path));
        let mut client = SvidClient::new(self.channel(&Who::Local));
        let minted = client.mint_x509svid(MintX509svidRequest { csr, ttl: 0 }).await.unwrap().into_inner();
        Identity::new(minted.svid.unwrap(), &key)
    }
}

/// Where the server is.
#[derive(Clone)]
struct Place {
    grpc: SocketAddr,
    socket: PathBuf,
}

/// A connection, of either kind.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

impl Place {
    fn open<'a>(&'a self, who: &'a Who) -> Fut<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream: Box<dyn Stream> = match who {
                Who::Local => Box::new(UnixStream::connect(&self.socket).await?),
                Who::Nobody => Box::new(tls(self.grpc, None, "h2").await?),
                Who::With(identity) => Box::new(tls(self.grpc, Some(identity), "h2").await?),
            };
            Ok(stream)
        })
    }
}

/// A TLS connection to one of the listeners, for this protocol.
pub async fn tls(to: SocketAddr, identity: Option<&Identity>, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
    tls_over(TcpStream::connect(to).await?, identity, alpn).await
}

/// The same over what leads there.
pub async fn tls_over<S: Stream>(to: S, identity: Option<&Identity>, alpn: &str) -> std::io::Result<TlsStream<S>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(DangerAnyone(provider)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.pkcs8.clone()));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), to).await
}
