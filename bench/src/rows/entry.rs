//! From an entry's creation to its SVID in the workload's hand: admin socket, server, agent, Workload API.

use crate::{
    client::channel::SecurityHeader,
    house::{House, PERSON, TRUST_DOMAIN},
    load::Latencies,
    stopwatch::now,
};
use anyhow::{Context, Result};
use proto_wire::workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use tonic::Streaming;

/// The open stream of one workload.
struct Workload(Streaming<X509svidResponse>);

impl Workload {
    async fn until(&mut self, spiffe_id: &str, there: bool) -> Result<()> {
        loop {
            let message = self.0.message().await?.context("the agent ended the stream")?;
            if message.svids.iter().any(|s| s.spiffe_id == spiffe_id) == there {
                return Ok(());
            }
        }
    }
}

/// The time each of `times` entries takes, from sending its creation to the message with its SVID; each is deleted again.
pub async fn to_svid(house: &House, times: usize) -> Result<Latencies> {
    to_svid_from(house, house, times).await
}

/// The same, created at one server and arriving through the agent of another.
pub async fn to_svid_from(made: &House, house: &House, times: usize) -> Result<Latencies> {
    let channel = house.agent_channel().await?;
    let mut api = SpiffeWorkloadApiClient::with_interceptor(channel, SecurityHeader);
    let mut workload = Workload(api.fetch_x509svid(X509svidRequest {}).await?.into_inner());
    // The identity that keeps the stream open.
    workload.until(&format!("spiffe://{TRUST_DOMAIN}{PERSON}"), true).await?;
    let mut took = Vec::with_capacity(times);
    for i in 0..times {
        let path = format!("/bench/entry-{i}");
        let spiffe_id = format!("spiffe://{TRUST_DOMAIN}{path}");
        let start = now();
        let (created, arrived) = tokio::join!(made.create_entry(&path, None), async {
            let arrived = workload.until(&spiffe_id, true).await;
            arrived.map(|()| now() - start)
        });
        took.push(arrived?);
        made.delete_entry(created?).await?;
        workload.until(&spiffe_id, false).await?;
    }
    Ok(Latencies::new(took))
}
