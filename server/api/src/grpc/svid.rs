//! `spire.api.server.svid.v1.SVID`: agents have SVIDs signed for their entries, operators mint.

use super::{
    caller::{agent_caller, downstream, operator},
    jwt_out, proven_key, x509_out,
};
use crate::{
    Api,
    status::{item, status, wire},
};
use futures_util::{StreamExt, stream};
use proto_types::EntryId;
use proto_wire::{
    convert::spiffe_id_in,
    spire::api::server::svid::v1::{
        BatchNewWitsvidRequest, BatchNewWitsvidResponse, BatchNewX509svidRequest, BatchNewX509svidResponse,
        MintJwtsvidRequest, MintJwtsvidResponse, MintWitsvidRequest, MintWitsvidResponse, MintX509svidRequest,
        MintX509svidResponse, NewDownstreamX509caRequest, NewDownstreamX509caResponse, NewJwtsvidRequest,
        NewJwtsvidResponse, NewX509svidParams, batch_new_x509svid_response, svid_server::Svid,
    },
};
use server_service::AgentCaller;
use tonic::{Request, Response, Status};

/// Most CSRs in one batch, and how many of a batch are signed at once.
const MAX_BATCH: usize = 500;
const AT_ONCE: usize = 16;

pub(crate) struct Service(pub Api);

impl Service {
    async fn one(&self, caller: &AgentCaller, params: NewX509svidParams) -> batch_new_x509svid_response::Result {
        let signed = async {
            let entry = EntryId::new(params.entry_id).map_err(|e| Status::invalid_argument(e.to_string()))?;
            let key = proven_key(&params.csr, &self.0)?;
            self.0.service.x509_for_entry(caller, &entry, &key).await.map_err(status)
        };
        match signed.await {
            Ok(issued) => {
                self.0.metrics.issued("x509");
                batch_new_x509svid_response::Result { status: item(Ok(())), svid: Some(x509_out(issued)) }
            }
            Err(e) => batch_new_x509svid_response::Result { status: item(Err(&e)), svid: None },
        }
    }
}

#[tonic::async_trait]
impl Svid for Service {
    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let params = request.into_inner().params;
        if params.is_empty() || params.len() > MAX_BATCH {
            return Err(Status::invalid_argument("a batch has 1 to 500 requests"));
        }
        let results = stream::iter(params).map(|p| self.one(&caller, p)).buffered(AT_ONCE).collect::<Vec<_>>().await;
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(&self, request: Request<NewJwtsvidRequest>) -> Result<Response<NewJwtsvidResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let request = request.into_inner();
        let entry = EntryId::new(request.entry_id).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let issued = self.0.service.jwt_for_entry(&caller, &entry, &request.audience).await.map_err(status)?;
        self.0.metrics.issued("jwt");
        Ok(Response::new(NewJwtsvidResponse { svid: Some(jwt_out(issued)) }))
    }

    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let operator = operator(&self.0, &request)?;
        let request = request.into_inner();
        // An operator names the identity in the CSR, as SPIRE's command line does; operators may name any workload's.
        let names = crate::tls::csr_names(&request.csr).map_err(Status::invalid_argument)?;
        let key = proven_key(&request.csr, &self.0)?;
        let ttl = u32::try_from(request.ttl).map_err(|_| Status::invalid_argument("ttl is negative"))?;
        let issued = self.0.service.mint_x509(&names.id, &names.dns, ttl, &key, operator).await.map_err(status)?;
        self.0.metrics.issued("x509");
        Ok(Response::new(MintX509svidResponse { svid: Some(x509_out(issued)) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let operator = operator(&self.0, &request)?;
        let request = request.into_inner();
        let id = spiffe_id_in(request.id.as_ref(), "id").map_err(wire)?;
        let ttl = u32::try_from(request.ttl).map_err(|_| Status::invalid_argument("ttl is negative"))?;
        let issued = self.0.service.mint_jwt(&id, &request.audience, ttl, operator).await.map_err(status)?;
        self.0.metrics.issued("jwt");
        Ok(Response::new(MintJwtsvidResponse { svid: Some(jwt_out(issued)) }))
    }

    async fn mint_witsvid(
        &self,
        request: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        operator(&self.0, &request)?;
        Err(Status::unimplemented("WIT-SVIDs are not issued"))
    }

    async fn batch_new_witsvid(
        &self,
        request: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        agent_caller(&self.0, &request).await?;
        Err(Status::unimplemented("WIT-SVIDs are not issued"))
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        downstream(&self.0, &request)?;
        Err(Status::unimplemented("downstream authorities are not served"))
    }
}
