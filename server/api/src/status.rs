//! From the domain's errors to gRPC: the one place.

use prost::Message;
use proto_wire::{convert::WireError, spire::api::types::permission_denied_details::Reason};
use server_service::ServiceError;
use tonic::{Code, Status};

/// What gRPC clients are told. An agent that must act on a refusal finds SPIRE's details in it.
pub(crate) fn status(error: ServiceError) -> Status {
    let text = error.to_string();
    match error {
        ServiceError::Invalid(_) => Status::invalid_argument(text),
        ServiceError::NotFound { .. } => Status::not_found(text),
        ServiceError::EntryExists(_) | ServiceError::Exists { .. } => Status::already_exists(text),
        ServiceError::Denied { .. } | ServiceError::Held { .. } => Status::permission_denied(text),
        ServiceError::Unauthenticated(_) => Status::unauthenticated(text),
        ServiceError::AgentBanned => refused(text, Reason::AgentBanned),
        ServiceError::AgentUnknown => refused(text, Reason::AgentNotAttested),
        ServiceError::AgentNotActive => refused(text, Reason::AgentNotActive),
        ServiceError::Conflict(_) => Status::failed_precondition(text),
        ServiceError::TaskOver => Status::failed_precondition(text),
        ServiceError::Pruned(_) => Status::out_of_range(text),
        ServiceError::TargetRefused { .. } => Status::failed_precondition(text),
        ServiceError::TargetUnavailable { .. } => Status::unavailable(text),
        ServiceError::Target(_) | ServiceError::Policy(_) => Status::invalid_argument(text),
        ServiceError::Unavailable(_) => Status::unavailable(text),
    }
}

pub(crate) fn wire(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// `google.rpc.Status` with one `PermissionDeniedDetails`, as SPIRE's agents read it.
fn refused(text: String, reason: Reason) -> Status {
    let details = proto_wire::spire::api::types::PermissionDeniedDetails { reason: reason.into() };
    let packed = prost_types::Any {
        type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".into(),
        value: details.encode_to_vec(),
    };
    let body = RpcStatus { code: Code::PermissionDenied as i32, message: text.clone(), details: vec![packed] };
    Status::with_details(Code::PermissionDenied, text, body.encode_to_vec().into())
}

/// `google.rpc.Status`: three fields are all of it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// The status of one item of a batch.
pub(crate) fn item(result: Result<(), &Status>) -> Option<proto_wire::spire::api::types::Status> {
    Some(match result {
        Ok(()) => proto_wire::spire::api::types::Status { code: Code::Ok as i32, message: "OK".into() },
        Err(s) => proto_wire::spire::api::types::Status { code: s.code() as i32, message: s.message().into() },
    })
}
