//! The way to the server: one HTTP/2 connection over TLS 1.3, presenting the agent's newest SVID.
//!
//! Decides who is called and that it is the server. When to call again after a failure is the caller's; what to do with
//! a refusal is `refusal`'s and `node`'s.

mod connect;
mod discover;
mod refusal;
mod verify;

pub use refusal::{Refusal, refusal};
pub use verify::CurrentBundle;

use crate::{config::Servers, identity::CurrentIdentity, ports::Ports};
use arc_swap::ArcSwap;
use connect::Connector;
use proto_tls::{DangerAnyone, Expected, HouseTime, SvidVerifier};
use proto_types::{
    SpiffeId, TrustDomain,
    id::{excerpt, parse_spiffe_id},
};
use proto_wire::{
    errand::v1::node_client::NodeClient,
    spire::api::server::{
        agent::v1::agent_client::AgentClient, bundle::v1::bundle_client::BundleClient,
        svid::v1::svid_client::SvidClient,
    },
};
use rustls::{ClientConfig, client::Resumption, version::TLS13};
use std::{sync::Arc, time::Duration};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use verify::BundleAnchors;

/// Most bytes of one answer: a node may have 100,000 entries, stated in one message.
const MAX_ANSWER: usize = 128 * 1024 * 1024;
/// How often a silent connection is asked whether it lives, and how long its answer may take: behind that it is dead,
/// whatever the kernel thinks of it.
struct Pings {
    every: Duration,
    answered: Duration,
}
/// Where there is no other server, there is no hurry.
const ALONE: Pings = Pings { every: Duration::from_secs(10), answered: Duration::from_secs(10) };
/// Where there is one, the agent is with it two seconds after this one fell silent.
const SEVERAL: Pings = Pings { every: Duration::from_millis(700), answered: Duration::from_millis(500) };
/// The longest a unary call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The TLS library refused its own configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct UpstreamError(String);

/// The server, as the agent reaches it.
pub struct Upstream {
    channel: ArcSwap<Channel>,
    connector: Connector,
}

impl Upstream {
    /// Verifies the server with `bundle` and presents `identity`; both are read at each handshake.
    pub fn new(
        td: &TrustDomain,
        servers: &Servers,
        bundle: CurrentBundle,
        identity: CurrentIdentity,
        ports: &Ports,
    ) -> Result<Self, UpstreamError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let expected = Expected::Exactly(server_id(td)?);
        let verifier = SvidVerifier::new(Arc::new(BundleAnchors(bundle)), expected, true, provider.clone());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(HouseTime(ports.clock.clone())))
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| UpstreamError(e.to_string()))?;
        let tls = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(identity));
        Ok(Self::over(tls, servers, ports))
    }

    /// Believes whoever answers: to get a first bundle, and for nothing else.
    pub fn danger_unverified(servers: &Servers, ports: &Ports) -> Result<Self, UpstreamError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(HouseTime(ports.clock.clone())))
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| UpstreamError(e.to_string()))?;
        let verifier = Arc::new(DangerAnyone(provider));
        let tls = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self::over(tls, servers, ports))
    }

    fn over(mut tls: ClientConfig, servers: &Servers, ports: &Ports) -> Self {
        tls.resumption = Resumption::disabled();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let connector = Connector::new(Arc::new(tls), servers.clone(), ports.clone());
        let channel = ArcSwap::from_pointee(open(&connector));
        Self { channel, connector }
    }

    /// Leaves the connection: the next call opens one, with the identity and the bundle of that moment. Calls that run
    /// on the old one end on it.
    pub fn renew(&self) {
        self.channel.store(Arc::new(open(&self.connector)));
    }

    /// Leaves the server that was reached last: the next call goes to another, when there is one.
    pub fn leave(&self) {
        self.connector.avoid_current();
        self.renew();
    }

    /// Whether there may be another server to go to.
    pub fn has_others(&self) -> bool {
        self.connector.has_others()
    }

    /// Why no server is reached, when none is.
    pub fn unreached(&self) -> Option<Arc<String>> {
        self.connector.unreached()
    }

    /// Why a call failed, as far as anybody here knows.
    pub fn why(&self, status: &Status) -> String {
        self.unreached().map_or_else(|| excerpt(status.message()), |why| why.to_string())
    }

    fn channel(&self) -> Channel {
        self.channel.load().as_ref().clone()
    }
    pub fn agents(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER)
    }
    pub fn bundles(&self) -> BundleClient<Channel> {
        BundleClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER)
    }
    pub fn svids(&self) -> SvidClient<Channel> {
        SvidClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER)
    }
    pub fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER)
    }
}

/// A request that ends by itself when the server does not answer in time.
pub fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

fn server_id(td: &TrustDomain) -> Result<SpiffeId, UpstreamError> {
    parse_spiffe_id(&format!("spiffe://{td}/spire/server")).map_err(|e| UpstreamError(e.to_string()))
}

fn open(connector: &Connector) -> Channel {
    // The name in the address goes nowhere: the connector knows where the servers are and who they must be.
    let pings = if connector.has_others() { SEVERAL } else { ALONE };
    Endpoint::from_static("http://errand-server")
        .http2_keep_alive_interval(pings.every)
        .keep_alive_timeout(pings.answered)
        .keep_alive_while_idle(true)
        .buffer_size(64)
        .connect_with_connector_lazy(connector.clone())
}
