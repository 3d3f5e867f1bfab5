//! What a refusal means for the node: read from the details of a PermissionDenied, as SPIRE defines them.
//!
//! Only an answer of the verified server comes here; a broken connection refuses nothing.

use prost::Message as _;
use proto_wire::spire::api::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use tonic::{Code, Status};

/// Why the server does not take this node for one of its agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An operator's ban: there is no way back but the operator's.
    Banned,
    /// The node is not known (any more): it was evicted.
    NotAttested,
    /// The SVID is not the node's current one.
    NotActive,
    Expired,
    MustReattest,
}

/// The envelope of status details (`google.rpc.Status`).
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// The refusal that `status` states, if it states one.
pub fn refusal(status: &Status) -> Option<Refusal> {
    if status.code() != Code::PermissionDenied {
        return None;
    }
    let envelope = Envelope::decode(status.details()).ok()?;
    let is_ours = |any: &&prost_types::Any| any.type_url.ends_with("/spire.api.types.PermissionDeniedDetails");
    let details = PermissionDeniedDetails::decode(envelope.details.iter().find(is_ours)?.value.as_slice()).ok()?;
    match details.reason() {
        Reason::Unknown => None,
        Reason::AgentExpired => Some(Refusal::Expired),
        Reason::AgentNotAttested => Some(Refusal::NotAttested),
        Reason::AgentNotActive => Some(Refusal::NotActive),
        Reason::AgentBanned => Some(Refusal::Banned),
        Reason::AgentMustReattest => Some(Refusal::MustReattest),
    }
}
