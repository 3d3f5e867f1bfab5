//! Who calls: the classes of callers, as SPIRE has them. Every method asks for its class before it reads its message.

use crate::{Api, Peer, status::status};
use proto_tls::Svid;
use server_service::AgentCaller;
use std::sync::Arc;
use tonic::{Request, Status};

/// The agent that calls: its SVID was verified at the handshake, its standing is asked now.
pub(super) fn agent_caller<T>(api: &Api, request: &Request<T>) -> Result<AgentCaller, Status> {
    let cert = cert(api, request, "only agents may call this, on the gRPC port and with their SVID")?;
    if !cert.id.path().starts_with("/spire/agent/") {
        return Err(Status::permission_denied("only agents may call this"));
    }
    api.service.agent(&cert.id, &cert.serial).map_err(status)
}

/// Who administers: an operator on the socket (named, by uid), or a workload whose entry says `admin`.
pub(super) fn operator<T>(api: &Api, request: &Request<T>) -> Result<Option<String>, Status> {
    match request.extensions().get::<Peer>() {
        Some(peer) => crate::http::operator(api, peer).map_err(|p| status(p.0)),
        None => Err(Status::internal("the connection has no peer")),
    }
}

/// An operator or an agent.
pub(super) fn operator_or_agent<T>(api: &Api, request: &Request<T>) -> Result<(), Status> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Tls { .. }) if agent_caller(api, request).is_ok() => Ok(()),
        _ => operator(api, request).map(drop),
    }
}

/// A server below this one: a workload whose entry says `downstream`.
pub(super) fn downstream<T>(api: &Api, request: &Request<T>) -> Result<(), Status> {
    const ONLY: &str = "only workloads with a downstream entry may call this";
    let cert = cert(api, request, ONLY)?;
    if api.service.read(|s| s.entries.is_downstream(&cert.id)) { Ok(()) } else { Err(Status::permission_denied(ONLY)) }
}

/// The certificate of who calls over TLS. Who came another way is known, and the wrong caller.
fn cert<T>(api: &Api, request: &Request<T>, only: &'static str) -> Result<Arc<Svid>, Status> {
    match request.extensions().get::<Peer>() {
        Some(peer @ Peer::Tls { .. }) => peer
            .cert(api.service.now())
            .cloned()
            .ok_or_else(|| Status::unauthenticated("call with a valid SVID as client certificate")),
        _ => Err(Status::permission_denied(only)),
    }
}
