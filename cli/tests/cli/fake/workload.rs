//! The Workload API as a member of the task sees it: the task's identity first, then the workload's own.

use super::{Shared, TASK, WORKLOAD, agent::marked};
use proto_wire::workload::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::SpiffeWorkloadApi,
};
use std::sync::Arc;
use tokio_stream::Iter;
use tonic::{Request, Response, Status};

pub struct Workload(pub Arc<Shared>);

type Stream<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not asked by `errand exchange`"))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Workload {
    type FetchX509SVIDStream = Stream<X509svidResponse>;
    type FetchX509BundlesStream = Stream<X509BundlesResponse>;
    type FetchJWTBundlesStream = Stream<JwtBundlesResponse>;
    type FetchWITSVIDStream = Stream<WitsvidResponse>;
    type FetchWITBundlesStream = Stream<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        marked(&request)?;
        let svids = [format!("{WORKLOAD}/task/{TASK}"), WORKLOAD.to_string()].map(|spiffe_id| {
            let svid = self.0.authority.svid(&spiffe_id);
            let bundle = self.0.authority.der.clone();
            X509svid { spiffe_id, x509_svid: svid.der, x509_svid_key: svid.key, bundle, hint: String::new() }
        });
        let message = X509svidResponse { svids: svids.into(), ..Default::default() };
        Ok(Response::new(tokio_stream::iter(vec![Ok(message)])))
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        marked(&request)?;
        let request = request.into_inner();
        let svid = format!("token of {} for {}", request.spiffe_id, request.audience.join(" "));
        let svids = vec![Jwtsvid { spiffe_id: request.spiffe_id, svid, hint: String::new() }];
        Ok(Response::new(JwtsvidResponse { svids }))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        not_asked()
    }
    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        not_asked()
    }
    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        not_asked()
    }
    async fn fetch_witsvid(&self, _: Request<WitsvidRequest>) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        not_asked()
    }
    async fn fetch_wit_bundles(
        &self,
        _: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        not_asked()
    }
}
