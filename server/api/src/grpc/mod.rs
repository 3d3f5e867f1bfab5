//! gRPC: one file per service, and who may call what.
//!
//! Classes of callers, as SPIRE has them: anyone (attesting), an agent, an administrator by mTLS, an operator on the
//! admin socket. Every method asks for its class first (`caller.rs`); the table of who may call what is
//! `server/daemon/tests/data/who_may_call.txt`.

mod agent;
mod bundle;
mod caller;
mod debug;
mod entry;
mod filter;
mod health;
mod node;
mod page;
mod svid;

use crate::{Api, Peer, problem::Problem};
use axum::{
    Router,
    extract::State,
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use proto_wire::{
    errand::v1::node_server::NodeServer,
    grpc::health::v1::health_server::HealthServer,
    spire::api::server::{
        agent::v1::agent_server::AgentServer, bundle::v1::bundle_server::BundleServer,
        debug::v1::debug_server::DebugServer, entry::v1::entry_server::EntryServer, svid::v1::svid_server::SvidServer,
    },
};
use server_core::ports::ProvenKey;
use server_service::ServiceError;
use std::{net::IpAddr, num::NonZeroU32};
use tonic::{Status, service::Routes};

/// Largest message accepted, bytes: a batch of 500 CSRs fits.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// The same for the services that anybody may call.
const MAX_OPEN_MESSAGE: usize = 128 * 1024;

/// Rates per address, as SPIRE has them: unauthenticated attestation is the only call that costs us a signature before
/// the caller is known, and an agent's word on itself the only one that makes a record each time it changes.
pub(crate) struct Limits {
    attest: DefaultKeyedRateLimiter<IpAddr>,
    status: DefaultKeyedRateLimiter<IpAddr>,
    /// Failed authentications at `/oauth2/*`: nobody guesses a signature, but each try costs us its verification.
    authentication: DefaultKeyedRateLimiter<IpAddr>,
    /// Records of denials, by who was denied: a verified identity or a uid.
    denials: DefaultKeyedRateLimiter<String>,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            attest: RateLimiter::keyed(Quota::per_second(rate(1)).allow_burst(rate(20))),
            status: RateLimiter::keyed(Quota::per_second(rate(10))),
            authentication: RateLimiter::keyed(Quota::per_second(rate(1)).allow_burst(rate(60))),
            denials: RateLimiter::keyed(Quota::per_second(rate(1)).allow_burst(rate(60))),
        }
    }
}

impl Limits {
    /// Whether this address may attest now.
    fn may_attest(&self, ip: Option<IpAddr>) -> bool {
        ip.is_none_or(|ip| within(&self.attest, &subnet(ip)))
    }
    /// Whether an agent of this address may say now what it is.
    fn may_post_status(&self, ip: Option<IpAddr>) -> bool {
        ip.is_none_or(|ip| within(&self.status, &subnet(ip)))
    }
    /// Whether one more failed authentication from this address is answered as such.
    pub(crate) fn may_fail_to_authenticate(&self, ip: Option<IpAddr>) -> bool {
        ip.is_none_or(|ip| within(&self.authentication, &subnet(ip)))
    }
    /// Whether one more denial of this caller goes into the journal.
    fn may_leave_a_denial(&self, who: &String) -> bool {
        within(&self.denials, who)
    }
}

/// Known keys are bounded: idle ones are forgotten.
fn within<K: Clone + Eq + std::hash::Hash>(limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> bool {
    if limiter.len() > 10_000 {
        limiter.retain_recent();
    }
    limiter.check_key(key).is_ok()
}

/// IPv6 hosts own a /64: one key for all of it.
fn subnet(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let mut parts = v6.segments();
            parts[4..].fill(0);
            IpAddr::from(parts)
        }
    }
}

/// The services of the admin socket: what operators call, and what the server says of itself.
pub(crate) fn admin(api: &Api) -> Router {
    spire(api)
        .add_service(HealthServer::new(health::Service(api.clone())).max_decoding_message_size(MAX_OPEN_MESSAGE))
        .add_service(DebugServer::new(debug::Service(api.clone())).max_decoding_message_size(MAX_OPEN_MESSAGE))
        .into_axum_router()
        .fallback(nothing_here)
        .layer(axum::middleware::from_fn(asked))
}

/// The services of the gRPC port: the SPIRE services, and what agents need.
pub(crate) fn node(api: &Api) -> Router {
    let node = NodeServer::new(node::Service(api.clone())).max_decoding_message_size(MAX_MESSAGE);
    let known = axum::middleware::from_fn_with_state(api.clone(), known);
    let router = spire(api).add_service(node).into_axum_router().fallback(nothing_here);
    router.layer(axum::middleware::from_fn(asked)).layer(known)
}

/// What there is no service for. A caller that speaks plain HTTP cannot read a gRPC status, which comes in a 200: it would
/// take a mistyped path for a success.
async fn nothing_here(request: axum::extract::Request) -> Response {
    let said = request.headers().get(header::CONTENT_TYPE);
    if said.is_some_and(|t| t.as_bytes().starts_with(b"application/grpc")) {
        return Status::unimplemented("there is no such service here").into_http();
    }
    Problem(ServiceError::not_found("path", request.uri().path())).into_response()
}

/// Says to the service which of its methods is called.
async fn asked(mut request: axum::extract::Request, next: Next) -> Response {
    let method = caller::Asked(request.uri().path().to_string());
    request.extensions_mut().insert(method);
    next.run(request).await
}

/// Before a byte of a message is decoded: without a certificate there is attestation and the bundle, and nothing else.
async fn known(State(api): State<Api>, request: axum::extract::Request, next: Next) -> Response {
    let open = ["/spire.api.server.agent.v1.Agent/AttestAgent", "/spire.api.server.bundle.v1.Bundle/GetBundle"];
    let peer = request.extensions().get::<Peer>();
    let known = peer.is_some_and(|p| p.cert(api.service.now()).is_some());
    if known || open.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    api.metrics.unauthenticated();
    Status::unauthenticated("call with a valid SVID as client certificate").into_http()
}

fn spire(api: &Api) -> Routes {
    Routes::new(AgentServer::new(agent::Service(api.clone())).max_decoding_message_size(MAX_OPEN_MESSAGE))
        .add_service(BundleServer::new(bundle::Service(api.clone())).max_decoding_message_size(MAX_OPEN_MESSAGE))
        .add_service(EntryServer::new(entry::Service(api.clone())).max_decoding_message_size(MAX_MESSAGE))
        .add_service(SvidServer::new(svid::Service(api.clone())).max_decoding_message_size(MAX_MESSAGE))
}

fn proven_key(csr: &[u8], api: &Api) -> Result<ProvenKey, Status> {
    let authorities = &api.service.ports().authorities;
    let bundle = authorities.bundle();
    // A key that already signs for the house must never be a subject's. Its bytes stand in its certificate as they are:
    // looking for them spares reading every CA for every request.
    let blocked = |spki: &[u8]| {
        bundle.x509.iter().any(|ca| ca.windows(spki.len().max(1)).any(|part| part == spki))
            || bundle.jwt.iter().any(|k| k.spki_der == spki)
    };
    server_core::issue::check_csr(csr, &blocked)
        .map_err(|e| Status::invalid_argument(format!("the CSR is refused: {e}")))
}

fn x509_out(issued: server_service::IssuedX509) -> proto_wire::spire::api::types::X509svid {
    proto_wire::spire::api::types::X509svid {
        cert_chain: issued.svid.chain,
        id: Some(proto_wire::convert::spiffe_id_out(&issued.id)),
        expires_at: issued.svid.not_after.as_secs(),
        hint: issued.hint,
    }
}

fn jwt_out(issued: server_service::IssuedJwt) -> proto_wire::spire::api::types::Jwtsvid {
    proto_wire::spire::api::types::Jwtsvid {
        token: issued.token.expose().clone(),
        id: Some(proto_wire::convert::spiffe_id_out(&issued.id)),
        expires_at: issued.expires_at.as_secs(),
        issued_at: issued.issued_at.as_secs(),
        hint: issued.hint,
    }
}
