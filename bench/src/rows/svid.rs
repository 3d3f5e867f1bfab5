//! Issuing: `svid.v1` as an agent calls it, over one kept connection.

use crate::{
    client::{keys::Key, node::Node, rpc::Call},
    load::{self, Caller, Load},
    stopwatch::Span,
};
use anyhow::{Context, Result, ensure};
use proto_wire::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, BatchNewX509svidResponse, NewJwtsvidRequest, NewJwtsvidResponse, NewX509svidParams,
};

/// Requests in flight.
pub const IN_FLIGHT: usize = 64;

struct X509(Call);

impl Caller for X509 {
    async fn call(&mut self) -> Result<()> {
        let answer: BatchNewX509svidResponse = self.0.send().await?;
        let result = answer.results.into_iter().next().context("an answer for the CSR")?;
        ensure!(result.svid.is_some(), "no SVID: {:?}", result.status);
        Ok(())
    }
}

/// One CSR a request, keys made before.
pub async fn x509(node: &Node, entry_id: &str, span: Span) -> Result<Load> {
    let caller = |_| {
        let params = NewX509svidParams { entry_id: entry_id.into(), csr: Key::generate()?.csr };
        let request = BatchNewX509svidRequest { params: vec![params] };
        Ok(X509(node.rpc.call("/spire.api.server.svid.v1.SVID/BatchNewX509SVID", &request)?))
    };
    let callers = (0..IN_FLIGHT).map(caller).collect::<Result<_>>()?;
    Ok(load::closed(callers, span).await?.0)
}

#[derive(Clone)]
struct Jwt(Call);

impl Caller for Jwt {
    async fn call(&mut self) -> Result<()> {
        let answer: NewJwtsvidResponse = self.0.send().await?;
        ensure!(answer.svid.is_some_and(|s| !s.token.is_empty()), "no token");
        Ok(())
    }
}

pub async fn jwt(node: &Node, entry_id: &str, span: Span) -> Result<Load> {
    jwt_at(&[node], entry_id, span).await
}

/// The same in turn at several servers.
pub async fn jwt_at(nodes: &[&Node], entry_id: &str, span: Span) -> Result<Load> {
    let request = NewJwtsvidRequest { entry_id: entry_id.into(), audience: vec!["reports".into()] };
    let caller = |node: &&Node| Ok(Jwt(node.rpc.call("/spire.api.server.svid.v1.SVID/NewJWTSVID", &request)?));
    let callers: Vec<Jwt> = nodes.iter().map(caller).collect::<Result<_>>()?;
    Ok(load::closed(callers.into_iter().cycle().take(IN_FLIGHT).collect(), span).await?.0)
}
