//! `spire.api.server.debug.v1.Debug` on the admin socket: how long the server runs, how much it holds, who it is.

use super::caller::operator;
use crate::Api;
use proto_types::id::parse_spiffe_id;
use proto_wire::{
    convert::spiffe_id_out,
    spire::api::{
        server::debug::v1::{GetInfoRequest, GetInfoResponse, debug_server::Debug, get_info_response::Cert},
        types::Spiffeid,
    },
};
use tonic::{Request, Response, Status};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

pub(crate) struct Service(pub Api);

#[tonic::async_trait]
impl Debug for Service {
    async fn get_info(&self, request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        operator(&self.0, &request)?;
        let service = &self.0.service;
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let uptime = service.now().since(self.0.started_at).as_secs();
        let (agents, entries) = service.read(|s| (s.nodes.len(), s.entries.len()));
        Ok(Response::new(GetInfoResponse {
            svid_chain: self.0.admin.chain().iter().filter_map(|der| cert_out(der)).collect(),
            uptime: i32::try_from(uptime).unwrap_or(i32::MAX),
            agents_count: count(agents),
            // SPIRE counts this trust domain's own bundle too.
            federated_bundles_count: 1,
            entries_count: count(entries),
        }))
    }
}

fn cert_out(der: &[u8]) -> Option<Cert> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    Some(Cert {
        id: id_of(&cert),
        expires_at: cert.validity().not_after.timestamp(),
        subject: cert.subject().to_string(),
    })
}

/// The certificate's one SPIFFE ID; a CA need not have one.
fn id_of(cert: &X509Certificate<'_>) -> Option<Spiffeid> {
    let names = cert.subject_alternative_name().ok()??;
    let uri = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })?;
    parse_spiffe_id(uri).ok().as_ref().map(spiffe_id_out)
}
