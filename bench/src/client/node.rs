//! An attested node: what an agent is to the server, without an agent's own work in the way of the measurement.

use super::{channel, keys::Key, rpc::Rpc, tls};
use crate::house::House;
use anyhow::{Context, Result};
use proto_wire::{
    errand::v1::{StartTaskRequest, WatchRequest, WatchResponse, node_client::NodeClient},
    spire::api::{
        server::agent::v1::{
            AgentX509svidParams, AttestAgentRequest, agent_client::AgentClient, attest_agent_request as ask,
            attest_agent_response as answer,
        },
        types::{AttestationData, Selector, Spiffeid},
    },
};
use rustls::ClientConfig;
use std::{net::Ipv4Addr, sync::Arc};
use tonic::{Streaming, transport::Channel};

/// Its connections are kept: one under load, one for the rest.
pub struct Node {
    pub id: Spiffeid,
    pub rpc: Rpc,
    tasks: NodeClient<Channel>,
    tls: Arc<ClientConfig>,
}

/// A task with all that an exchange needs.
pub struct TaskIdentity {
    pub chain: tls::Chain,
    pub key: Vec<u8>,
    /// The task's JWT-SVID for the token endpoint.
    pub subject_token: String,
}

impl Node {
    /// Attests with a fresh join token, then comes back with its own SVID.
    pub async fn attest(house: &House) -> Result<Self> {
        Self::attest_from(Ipv4Addr::LOCALHOST, house, None).await
    }

    /// The same from an address of its own, under a second name.
    pub async fn attest_from(from: Ipv4Addr, house: &House, alias: Option<Spiffeid>) -> Result<Self> {
        let token = house.join_token(alias).await?;
        let key = Key::generate()?;
        let nobody = channel::over_tls(from, house.grpc, tls::config(&house.ca, None, b"h2")?).await?;
        let first = AttestAgentRequest {
            step: Some(ask::Step::Params(ask::Params {
                data: Some(AttestationData { r#type: "join_token".into(), payload: token.into_bytes() }),
                params: Some(AgentX509svidParams { csr: key.csr.clone() }),
            })),
        };
        let mut answers = AgentClient::new(nobody).attest_agent(tokio_stream::once(first)).await?.into_inner();
        let step = answers.message().await?.and_then(|m| m.step);
        let Some(answer::Step::Result(result)) = step else { anyhow::bail!("the server did not attest: {step:?}") };
        let svid = result.svid.context("an attested node has an SVID")?;
        let config = tls::config(&house.ca, Some((&svid.cert_chain, &key.pkcs8)), b"h2")?;
        let tasks = NodeClient::new(channel::over_tls(from, house.grpc, config.clone()).await?);
        let rpc = Rpc::connect(house.grpc, config.clone()).await?;
        Ok(Self { id: svid.id.context("an SVID has an id")?, rpc, tasks, tls: config })
    }

    /// The same node at another server.
    pub async fn at(&self, house: &House) -> Result<Self> {
        let tasks = NodeClient::new(channel::over_tls(Ipv4Addr::LOCALHOST, house.grpc, self.tls.clone()).await?);
        let rpc = Rpc::connect(house.grpc, self.tls.clone()).await?;
        Ok(Self { id: self.id.clone(), rpc, tasks, tls: self.tls.clone() })
    }

    /// What the server tells this node, from now on.
    pub async fn watch(&mut self) -> Result<Streaming<WatchResponse>> {
        Ok(self.tasks.watch(WatchRequest::default()).await?.into_inner())
    }

    /// Starts a task held by its key, with these grants.
    pub async fn start_task(&mut self, entry_id: &str, grants: &[&str]) -> Result<TaskIdentity> {
        let key = Key::generate()?;
        let request = StartTaskRequest {
            entry_id: entry_id.into(),
            intent: "measure".into(),
            ttl_seconds: 600,
            grants: grants.iter().map(ToString::to_string).collect(),
            handle: true,
            selectors: vec![Selector { r#type: "unix".into(), value: "uid:0".into() }],
            csr: key.csr,
            ..StartTaskRequest::default()
        };
        let started = self.tasks.start_task(request).await?.into_inner();
        let chain = started.svid.context("a started task has an SVID")?.cert_chain;
        Ok(TaskIdentity { chain, key: key.pkcs8, subject_token: started.subject_token })
    }
}
