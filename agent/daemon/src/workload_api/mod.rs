//! The SPIFFE Workload API (SPIFFE_Workload_Endpoint, SPIFFE_Workload_API) over the agent's socket.
//!
//! Decides nothing about entitlement: that is the cache's view of what was attested. WIT-SVIDs are not issued.

mod bundles;
mod feed;
mod jwt;
mod validate;
mod x509;

use crate::{
    local::{attest, stream::Answers},
    shared::Shared,
};
use feed::Feed;
use proto_wire::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::SpiffeWorkloadApi,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub struct WorkloadService {
    pub shared: Arc<Shared>,
}

/// SPIFFE_Workload_Endpoint section 6: the header that a request forged through a proxy or a browser does not have.
/// Exactly once, exactly this value.
pub fn check_header<T>(request: &Request<T>) -> Result<(), Status> {
    let mut values = request.metadata().get_all("workload.spiffe.io").iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value.as_bytes() == b"true" => Ok(()),
        _ => {
            Err(Status::invalid_argument("security header missing from request: send `workload.spiffe.io: true` once"))
        }
    }
}

impl WorkloadService {
    /// A stream that renders the caller's scene whenever it changes.
    fn feed<Q, A: Send + 'static>(
        &self,
        request: &Request<Q>,
        render: feed::Render<A>,
    ) -> Result<Response<Answers<A>>, Status> {
        check_header(request)?;
        let (peer, permit) = attest::stream_peer(request)?;
        let (answers, stream) = Answers::channel(permit);
        // Not through `spawn`: it minds the stop itself, and tells its reader.
        self.shared.running.spawn(Feed { shared: self.shared.clone(), peer, answers, render }.run());
        Ok(Response::new(stream))
    }
}

fn no_wit() -> Status {
    Status::unimplemented("WIT-SVIDs are not issued here")
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadService {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;
    type FetchWITSVIDStream = Answers<WitsvidResponse>;
    type FetchWITBundlesStream = Answers<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.feed(&request, x509::render)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.feed(&request, bundles::x509)
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        check_header(&request)?;
        jwt::fetch(&self.shared, &attest::peer(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.feed(&request, bundles::jwt)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        check_header(&request)?;
        validate::validate(&self.shared, &attest::peer(&request)?, request.get_ref()).await.map(Response::new)
    }

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        check_header(&request)?;
        Err(no_wit())
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        check_header(&request)?;
        Err(no_wit())
    }
}
