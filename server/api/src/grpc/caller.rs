//! Who calls: the classes of callers, as SPIRE has them. Every method asks for its class before it reads its message.
//!
//! A known caller that is refused leaves a record, as on `/v1`; how many is bounded. One that nobody knows is counted.

use crate::{Api, Peer, status::status};
use proto_tls::Svid;
use proto_types::{Record, id::excerpt};
use serde_json::json;
use server_core::ports::Commit;
use server_service::AgentCaller;
use std::sync::Arc;
use tonic::{Code, Request, Status};

/// The method that is called, put into every request's extensions.
#[derive(Clone, Debug)]
pub(super) struct Asked(pub String);

/// The agent that calls: its SVID was verified at the handshake, its standing is asked now.
pub(super) async fn agent_caller<T>(api: &Api, request: &Request<T>) -> Result<AgentCaller, Status> {
    agent(api, request).await.map_err(|refused| noted(api, request, refused))
}

async fn agent<T>(api: &Api, request: &Request<T>) -> Result<AgentCaller, Status> {
    let cert = cert(api, request, "only agents may call this, on the gRPC port and with their SVID")?;
    if !cert.id.path().starts_with("/spire/agent/") {
        return Err(Status::permission_denied("only agents may call this"));
    }
    api.service.agent_caller(&cert.id, &cert.serial).await.map_err(status)
}

/// Who administers: an operator on the socket (named, by uid), or a workload whose entry says `admin`.
pub(super) fn operator<T>(api: &Api, request: &Request<T>) -> Result<Option<String>, Status> {
    let found = match request.extensions().get::<Peer>() {
        Some(peer) => crate::http::operator(api, peer).map_err(|p| status(p.0)),
        None => Err(Status::internal("the connection has no peer")),
    };
    found.map_err(|refused| noted(api, request, refused))
}

/// An operator or an agent.
pub(super) async fn operator_or_agent<T>(api: &Api, request: &Request<T>) -> Result<(), Status> {
    if agent(api, request).await.is_ok() { Ok(()) } else { operator(api, request).map(drop) }
}

/// A server below this one: a workload whose entry says `downstream`.
pub(super) fn downstream<T>(api: &Api, request: &Request<T>) -> Result<(), Status> {
    const ONLY: &str = "only workloads with a downstream entry may call this";
    let found = cert(api, request, ONLY).and_then(|cert| {
        let is_one = api.service.read(|s| s.entries.is_downstream(&cert.id));
        if is_one { Ok(()) } else { Err(Status::permission_denied(ONLY)) }
    });
    found.map_err(|refused| noted(api, request, refused))
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

/// Records that a known caller was denied something, beside the answer: a denial releases nothing that would have to wait.
fn noted<T>(api: &Api, request: &Request<T>, refused: Status) -> Status {
    if refused.code() != Code::PermissionDenied {
        return refused;
    }
    let path = request.extensions().get::<Asked>().map(|a| excerpt(&a.0)).unwrap_or_default();
    let record = Record::new(api.service.now(), "access.denied").outcome("denied");
    let (who, record) = match request.extensions().get::<Peer>() {
        Some(Peer::Local { uid, .. }) => (uid.to_string(), record.detail(json!({ "uid": uid, "path": path }))),
        Some(Peer::Tls { cert: Some(cert), .. }) => {
            let id = cert.id.to_string();
            (id.clone(), record.workload(id).detail(json!({ "path": path })))
        }
        _ => return refused,
    };
    if api.limits.may_leave_a_denial(&who) {
        let ledger = api.service.ports().ledger.clone();
        tokio::spawn(async move {
            if let Err(error) = ledger.commit(Commit::of(record)).await {
                tracing::warn!(%error, "a refusal could not be recorded");
            }
        });
    }
    refused
}
