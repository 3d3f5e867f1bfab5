//! `grpc.health.v1.Health` on the admin socket: what `/readyz` says, for who asks by gRPC. Asked, not watched.

use super::caller::operator;
use crate::{Api, http::health};
use proto_types::id::excerpt;
use proto_wire::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus, health_server::Health,
};
use tonic::{Request, Response, Status};

/// The server as a whole; its services stand and fall together.
const WHOLE: &str = "";

pub(crate) struct Service(pub Api);

impl Service {
    async fn status(&self) -> HealthCheckResponse {
        let wrong = health::problems(&self.0).await;
        let status = if wrong.is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing };
        HealthCheckResponse { status: status.into() }
    }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        operator(&self.0, &request)?;
        let service = request.into_inner().service;
        if service != WHOLE {
            let what = format!("`{}` has no health of its own; ask without a service", excerpt(&service));
            return Err(Status::not_found(what));
        }
        Ok(Response::new(self.status().await))
    }

    async fn list(&self, request: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        operator(&self.0, &request)?;
        let statuses = [(WHOLE.to_string(), self.status().await)].into();
        Ok(Response::new(HealthListResponse { statuses }))
    }
}
