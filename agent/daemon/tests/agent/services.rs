//! The services of the scripted server, as an agent calls them.

use crate::{
    fake::{AGENT, AGENT_TTL, ISSUER, SVID_TTL, State, TOKEN},
    unimplemented::unimplemented_calls,
};
use futures_util::StreamExt as _;
use proto_tlog::{Frontier, prove_consistency};
use proto_wire::{
    errand::v1::{
        CheckpointRequest, CheckpointResponse, EndTaskRequest, EndTaskResponse, NewTaskJwtsvidRequest,
        NewTaskJwtsvidResponse, NewTaskX509svidRequest, NewTaskX509svidResponse, ServerInfo, StartTaskRequest,
        StartTaskResponse, WatchRequest, WatchResponse, node_server::Node,
    },
    spire::api::{
        server::{
            agent::v1::{self as agent, agent_server::Agent},
            bundle::v1::{self as bundle, bundle_server::Bundle},
            svid::v1::{self as svid, svid_server::Svid},
        },
        types as wire,
    },
};
use std::{pin::Pin, sync::Arc, time::Duration};
use testkit::signers::TestLog;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
pub struct Service(pub Arc<State>);
type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Service {
    type AttestAgentStream = Answers<agent::AttestAgentResponse>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<agent::AttestAgentRequest>>,
    ) -> Answer<Self::AttestAgentStream> {
        use agent::{attest_agent_request::Step, attest_agent_response as out};
        let first = request.into_inner().message().await?.and_then(|m| m.step);
        let Some(Step::Params(params)) = first else { return Err(Status::invalid_argument("params first")) };
        let data = params.data.unwrap_or_default();
        let mut script = self.0.script();
        if script.token_spent || data.r#type != "join_token" || data.payload != TOKEN.as_bytes() {
            return Err(Status::permission_denied("the token is unknown, spent or expired"));
        }
        script.token_spent = true;
        script.attested += 1;
        script.agent_until = Some(self.0.now().plus(AGENT_TTL));
        let csr = params.params.unwrap_or_default().csr;
        let svid = self.0.ca.svid(AGENT, &csr, self.0.now(), AGENT_TTL);
        let result = out::Result { svid: Some(svid), reattestable: false };
        let message = agent::AttestAgentResponse { step: Some(out::Step::Result(result)) };
        Ok(Response::new(Box::pin(futures_util::stream::iter([Ok(message)]))))
    }

    async fn renew_agent(&self, request: Request<agent::RenewAgentRequest>) -> Answer<agent::RenewAgentResponse> {
        self.0.check(&request)?;
        let mut script = self.0.script();
        script.renewed += 1;
        script.agent_until = Some(self.0.now().plus(AGENT_TTL));
        drop(script);
        let csr = request.into_inner().params.unwrap_or_default().csr;
        let svid = Some(self.0.ca.svid(AGENT, &csr, self.0.now(), AGENT_TTL));
        Ok(Response::new(agent::RenewAgentResponse { svid }))
    }

    unimplemented_calls! {
        count_agents(agent::CountAgentsRequest) -> agent::CountAgentsResponse;
        list_agents(agent::ListAgentsRequest) -> agent::ListAgentsResponse;
        get_agent(agent::GetAgentRequest) -> wire::Agent;
        delete_agent(agent::DeleteAgentRequest) -> ();
        ban_agent(agent::BanAgentRequest) -> ();
        create_join_token(agent::CreateJoinTokenRequest) -> wire::JoinToken;
        post_status(agent::PostStatusRequest) -> agent::PostStatusResponse;
    }
}

#[tonic::async_trait]
impl Bundle for Service {
    async fn get_bundle(&self, _: Request<bundle::GetBundleRequest>) -> Answer<wire::Bundle> {
        Ok(Response::new(self.0.ca.bundle(1)))
    }
    unimplemented_calls! {
        count_bundles(bundle::CountBundlesRequest) -> bundle::CountBundlesResponse;
        append_bundle(bundle::AppendBundleRequest) -> wire::Bundle;
        publish_jwt_authority(bundle::PublishJwtAuthorityRequest) -> bundle::PublishJwtAuthorityResponse;
        publish_wit_authority(bundle::PublishWitAuthorityRequest) -> bundle::PublishWitAuthorityResponse;
        list_federated_bundles(bundle::ListFederatedBundlesRequest) -> bundle::ListFederatedBundlesResponse;
        get_federated_bundle(bundle::GetFederatedBundleRequest) -> wire::Bundle;
        batch_create_federated_bundle(bundle::BatchCreateFederatedBundleRequest)
            -> bundle::BatchCreateFederatedBundleResponse;
        batch_update_federated_bundle(bundle::BatchUpdateFederatedBundleRequest)
            -> bundle::BatchUpdateFederatedBundleResponse;
        batch_set_federated_bundle(bundle::BatchSetFederatedBundleRequest)
            -> bundle::BatchSetFederatedBundleResponse;
        batch_delete_federated_bundle(bundle::BatchDeleteFederatedBundleRequest)
            -> bundle::BatchDeleteFederatedBundleResponse;
    }
}

#[tonic::async_trait]
impl Svid for Service {
    async fn batch_new_x509svid(
        &self,
        request: Request<svid::BatchNewX509svidRequest>,
    ) -> Answer<svid::BatchNewX509svidResponse> {
        self.0.check(&request)?;
        self.0.records()?;
        let params = request.into_inner().params;
        let mut script = self.0.script();
        script.svids += params.len() as u32;
        let one = |p: svid::NewX509svidParams| {
            let entry = script.entries.iter().find(|e| e.id == p.entry_id);
            let svid = entry.map(|e| {
                let ttl = if e.x509_svid_ttl > 0 { Duration::from_secs(e.x509_svid_ttl as u64) } else { SVID_TTL };
                self.0.ca.svid(&id_of(e), &p.csr, self.0.now(), ttl)
            });
            svid::batch_new_x509svid_response::Result { status: None, svid }
        };
        let results = params.into_iter().map(one).collect();
        Ok(Response::new(svid::BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(&self, request: Request<svid::NewJwtsvidRequest>) -> Answer<svid::NewJwtsvidResponse> {
        self.0.check(&request)?;
        self.0.records()?;
        let request = request.into_inner();
        let mut script = self.0.script();
        script.jwts += 1;
        let entry = script.entries.iter().find(|e| e.id == request.entry_id);
        let id = id_of(entry.ok_or_else(|| Status::not_found("no such entry"))?);
        Ok(Response::new(svid::NewJwtsvidResponse { svid: Some(jwt(&self.0, &id, &request.audience)) }))
    }

    unimplemented_calls! {
        mint_x509svid(svid::MintX509svidRequest) -> svid::MintX509svidResponse;
        mint_jwtsvid(svid::MintJwtsvidRequest) -> svid::MintJwtsvidResponse;
        mint_witsvid(svid::MintWitsvidRequest) -> svid::MintWitsvidResponse;
        batch_new_witsvid(svid::BatchNewWitsvidRequest) -> svid::BatchNewWitsvidResponse;
        new_downstream_x509ca(svid::NewDownstreamX509caRequest) -> svid::NewDownstreamX509caResponse;
    }
}

fn id_of(e: &wire::Entry) -> String {
    let id = e.spiffe_id.clone().unwrap_or_default();
    format!("spiffe://{}{}", id.trust_domain, id.path)
}

fn jwt(state: &State, id: &str, audience: &[String]) -> wire::Jwtsvid {
    let ttl = Duration::from_secs(300);
    wire::Jwtsvid {
        token: state.ca.jwt(id, audience, state.now(), ttl),
        id: None,
        expires_at: state.now().plus(ttl).as_secs(),
        issued_at: state.now().as_secs(),
        hint: String::new(),
    }
}

#[tonic::async_trait]
impl Node for Service {
    type WatchStream = Answers<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        self.0.check(&request)?;
        let (tx, rx) = mpsc::unbounded_channel();
        let mut script = self.0.script();
        let first = WatchResponse {
            position: 1,
            reset: true,
            entries: script.entries.clone(),
            bundle: Some(self.0.ca.bundle(1)),
            live_task_ids: script.tasks.keys().cloned().collect(),
            server: Some(ServerInfo {
                trust_domain: "example.org".into(),
                issuer: ISSUER.into(),
                token_endpoint: format!("{ISSUER}/oauth2/token"),
                mtls_token_endpoint: "https://mtls.example.org/oauth2/token".into(),
                ca_pem: self.0.ca.pem.clone(),
                masked_json: "[]".into(),
            }),
            ..Default::default()
        };
        _ = tx.send(Ok(first));
        script.watchers.push(tx);
        Ok(Response::new(tokio_stream::wrappers::UnboundedReceiverStream::new(rx).boxed()))
    }

    async fn start_task(&self, request: Request<StartTaskRequest>) -> Answer<StartTaskResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let mut script = self.0.script();
        let entry = script.entries.iter().find(|e| e.id == request.entry_id);
        let workload = id_of(entry.ok_or_else(|| Status::not_found("no such entry"))?);
        let mut random = [0u8; 10];
        random[0] = script.started.len() as u8;
        let millis = self.0.now().as_millis() as u64;
        let task_id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string();
        let id = format!("{workload}/task/{task_id}");
        let ends_at = self.0.now().plus(Duration::from_secs(request.ttl_seconds.max(60).into()));
        let ttl = script.task_ttl.unwrap_or(Duration::from_secs(300));
        let svid = Some(self.0.ca.svid(&id, &request.csr, self.0.now(), ttl));
        script.tasks.insert(task_id.clone(), workload);
        script.started.push(request);
        let subject_token = jwt(&self.0, &id, &[ISSUER.into()]).token;
        Ok(Response::new(StartTaskResponse { task_id, ends_at: ends_at.as_millis(), svid, subject_token }))
    }

    async fn new_task_x509svid(&self, request: Request<NewTaskX509svidRequest>) -> Answer<NewTaskX509svidResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let script = self.0.script();
        let workload = script.tasks.get(&request.task_id).ok_or_else(|| Status::not_found("the task is over"))?;
        let ttl = script.task_ttl.unwrap_or(Duration::from_secs(300));
        let id = format!("{workload}/task/{}", request.task_id);
        let svid = Some(self.0.ca.svid(&id, &request.csr, self.0.now(), ttl));
        Ok(Response::new(NewTaskX509svidResponse { svid }))
    }

    async fn new_task_jwtsvid(&self, request: Request<NewTaskJwtsvidRequest>) -> Answer<NewTaskJwtsvidResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let script = self.0.script();
        let workload = script.tasks.get(&request.task_id).ok_or_else(|| Status::not_found("the task is over"))?;
        let svid = jwt(&self.0, &format!("{workload}/task/{}", request.task_id), &request.audience);
        Ok(Response::new(NewTaskJwtsvidResponse { svid: Some(svid) }))
    }

    async fn end_task(&self, request: Request<EndTaskRequest>) -> Answer<EndTaskResponse> {
        self.0.check(&request)?;
        let request = request.into_inner();
        let mut script = self.0.script();
        script.tasks.remove(&request.task_id).ok_or_else(|| Status::not_found("no such task"))?;
        script.ended.push((request.task_id, request.reason));
        Ok(Response::new(EndTaskResponse { open_leases: 2 }))
    }

    async fn checkpoint(&self, request: Request<CheckpointRequest>) -> Answer<CheckpointResponse> {
        self.0.check(&request)?;
        let journal = self.0.script().journal.clone();
        let log = TestLog::journal();
        let (seen, size) = (request.get_ref().seen_size, journal.leaves.len() as u64);
        let mut tree = Frontier::new();
        journal.leaves.iter().for_each(|leaf| tree.append(*leaf));
        let note = (size > 0).then(|| log.note(size, tree.root()).to_string());
        let Ok(path) = prove_consistency(seen, size, &journal.leaves[..]);
        Ok(Response::new(CheckpointResponse {
            store_id: journal.store_id,
            epoch: journal.epoch,
            note: note.unwrap_or_default(),
            keys: vec![log.verifier().to_string()],
            consistency: path.unwrap_or_default().iter().map(|hash| hash.to_vec()).collect(),
            now: self.0.now().as_millis(),
        }))
    }
}
