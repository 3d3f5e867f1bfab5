//! `spire.api.server.bundle.v1.Bundle`: this trust domain's own bundle. There are no others: what would keep one is refused
//! and says so, and what lists them lists none.

use super::{
    caller::{downstream, operator, operator_or_agent},
    filter::federated_in,
    page::Page,
};
use crate::Api;
use proto_wire::spire::api::{
    server::bundle::v1::{
        AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
        BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse, BatchSetFederatedBundleRequest,
        BatchSetFederatedBundleResponse, BatchUpdateFederatedBundleRequest, BatchUpdateFederatedBundleResponse,
        CountBundlesRequest, CountBundlesResponse, GetBundleRequest, GetFederatedBundleRequest,
        ListFederatedBundlesRequest, ListFederatedBundlesResponse, PublishJwtAuthorityRequest,
        PublishJwtAuthorityResponse, PublishWitAuthorityRequest, PublishWitAuthorityResponse,
        bundle_server::Bundle as Api_,
    },
    types::{Bundle, BundleMask, JwtKey, X509Certificate},
};
use tonic::{Request, Response, Status};

pub(crate) struct Service(pub Api);

/// The bundle on the wire; a mask takes away what it does not name.
pub(crate) fn bundle_out(api: &Api, mask: Option<&BundleMask>) -> Bundle {
    let all = BundleMask {
        x509_authorities: true,
        jwt_authorities: true,
        refresh_hint: true,
        sequence_number: true,
        wit_authorities: true,
    };
    let mask = mask.unwrap_or(&all);
    let bundle = api.service.ports().authorities.bundle();
    let x509 = bundle.x509.iter().map(|der| X509Certificate { asn1: der.clone(), tainted: false });
    let jwt = bundle.jwt.iter().map(|k| JwtKey {
        public_key: k.spki_der.clone(),
        key_id: k.kid.clone(),
        expires_at: k.not_after.as_secs(),
        tainted: false,
    });
    Bundle {
        trust_domain: api.service.settings().trust_domain.to_string(),
        x509_authorities: if mask.x509_authorities { x509.collect() } else { vec![] },
        jwt_authorities: if mask.jwt_authorities { jwt.collect() } else { vec![] },
        refresh_hint: if mask.refresh_hint { i64::try_from(bundle.refresh_hint).unwrap_or(300) } else { 0 },
        sequence_number: if mask.sequence_number { bundle.sequence } else { 0 },
        wit_authorities: vec![],
    }
}

const FEDERATION: &str = "this version does not federate: it keeps this trust domain's own bundle and no other";

#[tonic::async_trait]
impl Api_ for Service {
    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<Bundle>, Status> {
        Ok(Response::new(bundle_out(&self.0, request.into_inner().output_mask.as_ref())))
    }

    async fn count_bundles(
        &self,
        request: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        operator(&self.0, &request)?;
        Ok(Response::new(CountBundlesResponse { count: 1 }))
    }

    async fn append_bundle(&self, request: Request<AppendBundleRequest>) -> Result<Response<Bundle>, Status> {
        operator(&self.0, &request)?;
        Err(Status::unimplemented("this server's bundle holds its own authorities only"))
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        downstream(&self.0, &request)?;
        Err(Status::unimplemented("downstream authorities are not served"))
    }

    async fn publish_wit_authority(
        &self,
        request: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        downstream(&self.0, &request)?;
        Err(Status::unimplemented("WIT-SVIDs are not issued"))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        operator(&self.0, &request)?;
        let request = request.into_inner();
        Page::read(&request.page_token, request.page_size)?;
        Ok(Response::new(ListFederatedBundlesResponse { bundles: vec![], next_page_token: String::new() }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<Bundle>, Status> {
        operator_or_agent(&self.0, &request).await?;
        let td = federated_in(&request.into_inner().trust_domain)?;
        if td == self.0.service.settings().trust_domain {
            return Err(Status::invalid_argument("this is the server's own trust domain; its bundle is GetBundle's"));
        }
        Err(Status::not_found(format!("no bundle of `{td}` is kept here: this version does not federate")))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        operator(&self.0, &request)?;
        Err(Status::unimplemented(FEDERATION))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        operator(&self.0, &request)?;
        Err(Status::unimplemented(FEDERATION))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        operator(&self.0, &request)?;
        Err(Status::unimplemented(FEDERATION))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        operator(&self.0, &request)?;
        Err(Status::unimplemented(FEDERATION))
    }
}
