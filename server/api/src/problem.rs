//! From the domain's errors to HTTP: RFC 9457 problem documents. The one place.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use server_service::ServiceError;

/// An error on its way to an HTTP caller.
pub(crate) struct Problem(pub ServiceError);

impl From<ServiceError> for Problem {
    fn from(e: ServiceError) -> Self {
        Self(e)
    }
}

impl From<server_core::ports::ReadError> for Problem {
    fn from(e: server_core::ports::ReadError) -> Self {
        Self(e.into())
    }
}

impl Problem {
    pub(crate) fn invalid(why: impl Into<String>) -> Self {
        Self(ServiceError::Invalid(why.into()))
    }
    pub(crate) fn denied(why: impl Into<String>) -> Self {
        Self(ServiceError::Denied { why: why.into(), policies: vec![] })
    }
}

fn http_status(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::Invalid(_) | ServiceError::Target(_) | ServiceError::Policy(_) => StatusCode::BAD_REQUEST,
        ServiceError::NotFound { .. } => StatusCode::NOT_FOUND,
        ServiceError::EntryExists(_) | ServiceError::Exists { .. } | ServiceError::Conflict(_) => StatusCode::CONFLICT,
        ServiceError::Denied { .. } | ServiceError::Held { .. } | ServiceError::AgentBanned => StatusCode::FORBIDDEN,
        ServiceError::Unauthenticated(_) | ServiceError::AgentUnknown | ServiceError::AgentNotActive => {
            StatusCode::UNAUTHORIZED
        }
        ServiceError::TaskOver | ServiceError::Pruned(_) => StatusCode::GONE,
        ServiceError::TargetRefused { .. } => StatusCode::BAD_GATEWAY,
        ServiceError::TargetUnavailable { .. } | ServiceError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = http_status(&self.0);
        let body = Json(json!({
            "type": format!("urn:errand:problem:{}", self.0.code()),
            "title": status.canonical_reason().unwrap_or("error"),
            "status": status.as_u16(),
            "detail": self.0.to_string(),
            "code": self.0.code(),
        }));
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
