//! What a process asks of its agent: the SPIFFE Workload API, as bytes and as verified SVIDs.

use cli::agent_client::AgentClient;
use proto_wire::workload::{JwtsvidRequest, X509svidRequest, X509svidResponse};
use spiffe::X509Svid;
use tonic::{Status, Streaming};

/// An open `FetchX509SVID`.
pub async fn svid_stream(agent: &AgentClient) -> Result<Streaming<X509svidResponse>, Status> {
    Ok(agent.workload().fetch_x509svid(X509svidRequest {}).await?.into_inner())
}

/// The SVIDs of one answer, each checked to have the form of one.
pub fn svids_of(answer: &X509svidResponse) -> Vec<X509Svid> {
    let parse = |chain: &[u8], key: &[u8]| X509Svid::parse_from_der(chain, key).expect("an X509-SVID with its key");
    answer.svids.iter().map(|s| parse(&s.x509_svid, &s.x509_svid_key)).collect()
}

/// The first answer of a new stream.
pub async fn first_svids(agent: &AgentClient) -> Result<Vec<X509Svid>, Status> {
    let mut stream = svid_stream(agent).await?;
    let first = stream.message().await?.ok_or_else(|| Status::unavailable("the stream ended without an answer"))?;
    Ok(svids_of(&first))
}

/// The first JWT-SVID for `audience`.
pub async fn jwt_svid(agent: &AgentClient, audience: &str) -> Result<String, Status> {
    let request = JwtsvidRequest { audience: vec![audience.into()], spiffe_id: String::new() };
    let answer = agent.workload().fetch_jwtsvid(request).await?.into_inner();
    let first = answer.svids.into_iter().next();
    Ok(first.ok_or_else(|| Status::unavailable("no JWT-SVID in the answer"))?.svid)
}
