//! Issuing: `svid.v1` as an agent calls it, over one kept connection.

use crate::{
    client::{keys::Key, node::Node},
    load::{self, Caller, Load},
    stopwatch::Span,
};
use anyhow::{Context, Result, ensure};
use proto_wire::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, svid_client::SvidClient,
};
use tonic::transport::Channel;

/// Requests in flight.
pub const IN_FLIGHT: usize = 64;

struct X509 {
    client: SvidClient<Channel>,
    request: BatchNewX509svidRequest,
}

impl Caller for X509 {
    async fn call(&mut self) -> Result<()> {
        let answer = self.client.batch_new_x509svid(self.request.clone()).await?.into_inner();
        let result = answer.results.into_iter().next().context("an answer for the CSR")?;
        ensure!(result.svid.is_some(), "no SVID: {:?}", result.status);
        Ok(())
    }
}

/// One CSR a request, keys made before.
pub async fn x509(node: &Node, entry_id: &str, span: Span) -> Result<Load> {
    let caller = |_| {
        let params = NewX509svidParams { entry_id: entry_id.into(), csr: Key::generate()?.csr };
        Ok(X509 { client: node.svids.clone(), request: BatchNewX509svidRequest { params: vec![params] } })
    };
    let callers = (0..IN_FLIGHT).map(caller).collect::<Result<_>>()?;
    Ok(load::closed(callers, span).await?.0)
}

struct Jwt {
    client: SvidClient<Channel>,
    request: NewJwtsvidRequest,
}

impl Caller for Jwt {
    async fn call(&mut self) -> Result<()> {
        let answer = self.client.new_jwtsvid(self.request.clone()).await?.into_inner();
        ensure!(answer.svid.is_some_and(|s| !s.token.is_empty()), "no token");
        Ok(())
    }
}

pub async fn jwt(node: &Node, entry_id: &str, span: Span) -> Result<Load> {
    let request = NewJwtsvidRequest { entry_id: entry_id.into(), audience: vec!["reports".into()] };
    let caller = |_| Jwt { client: node.svids.clone(), request: request.clone() };
    Ok(load::closed((0..IN_FLIGHT).map(caller).collect(), span).await?.0)
}
