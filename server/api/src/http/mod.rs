//! HTTP: `/oauth2/*`, discovery, health, and `/v1` for operators.

pub(crate) mod discovery;
pub(crate) mod health;
mod oauth;
pub(crate) mod token;
pub(crate) mod tokens;
pub(crate) mod v1;

use crate::{Api, Peer, problem::Problem};
use proto_types::Record;
use server_core::ports::Commit;

/// Who administers: an operator on the socket, named by uid, or a workload whose entry says `admin`, by mTLS.
pub(crate) fn operator(api: &Api, peer: &Peer) -> Result<Option<String>, Problem> {
    match peer {
        Peer::Local { uid, .. } => match api.service.settings().operators.get(uid) {
            Some(name) => Ok(Some(name.clone())),
            None => Err(Problem::denied(format!(
                "uid {uid} is not an operator here; add it to [admin] operators in the server's configuration"
            ))),
        },
        Peer::Tls { .. } | Peer::Plain => {
            let admin = peer.cert(api.service.now()).filter(|c| api.service.read(|s| s.entries.is_admin(&c.id)));
            admin
                .map(|c| Some(c.id.to_string()))
                .ok_or_else(|| Problem::denied("only operators and workloads with an admin entry may call this"))
        }
    }
}

/// A local caller that is refused leaves a record.
async fn record_denial(api: &Api, peer: &Peer, path: &str) {
    let Peer::Local { uid, .. } = peer else { return };
    let record = Record::new(api.service.now(), "access.denied")
        .outcome("denied")
        .detail(serde_json::json!({ "uid": uid, "path": proto_types::id::excerpt(path) }));
    if let Err(error) = api.service.ports().ledger.commit(Commit::of(record)).await {
        tracing::warn!(%error, "a refusal could not be recorded");
    }
}
