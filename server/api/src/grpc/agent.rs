//! `spire.api.server.agent.v1.Agent`: attestation and renewal for agents, administration of nodes for operators.

use super::{
    caller::{agent_caller, operator},
    filter::{BySelectors, agent_in, member_in},
    page::Page,
    proven_key,
};
use crate::{Api, Peer, status::status};
use futures_util::Stream;
use proto_attest::{
    Attested, ChannelError, Evidence, Spend, VerifierChannel, VerifyError,
    channel::{MAX_CHALLENGES, MAX_EVIDENCE},
};
use proto_types::{Fut, Node, SpiffeId, Timestamp, id::excerpt};
use proto_wire::{
    convert::{node_out, spiffe_id_out},
    spire::api::{
        server::agent::v1::{
            AttestAgentRequest, AttestAgentResponse, BanAgentRequest, CountAgentsRequest, CountAgentsResponse,
            CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest, ListAgentsResponse,
            PostStatusRequest, PostStatusResponse, RenewAgentRequest, RenewAgentResponse, agent_server::Agent as Api_,
            attest_agent_request, attest_agent_response, count_agents_request, list_agents_request,
        },
        types::{Agent, AgentMask, JoinToken, Spiffeid, X509svid},
    },
};
use server_core::ports::X509Svid;
use server_service::NewAgent;
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The longest an attestation may take, challenges and all.
const ATTEST_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Service(pub Api);

type Answers = mpsc::Sender<Result<AttestAgentResponse, Status>>;

/// The server's end of the conversation of one attestation.
struct Conversation {
    incoming: Streaming<AttestAgentRequest>,
    answers: Answers,
    turns: usize,
}

impl VerifierChannel for Conversation {
    fn challenge(&mut self, challenge: Vec<u8>) -> Fut<'_, Result<Vec<u8>, ChannelError>> {
        Box::pin(async move {
            self.turns += 1;
            if self.turns > MAX_CHALLENGES {
                return Err(ChannelError::TooManyTurns);
            }
            let step = Some(attest_agent_response::Step::Challenge(challenge));
            self.answers.send(Ok(AttestAgentResponse { step })).await.map_err(|_| ChannelError::Closed)?;
            match self.incoming.message().await {
                Ok(Some(AttestAgentRequest { step: Some(attest_agent_request::Step::ChallengeResponse(answer)) })) => {
                    if answer.len() > MAX_EVIDENCE {
                        Err(ChannelError::TooLong(answer.len()))
                    } else {
                        Ok(answer)
                    }
                }
                _ => Err(ChannelError::Closed),
            }
        })
    }
}

impl Service {
    async fn attest(&self, talk: &mut Conversation) -> Result<AttestAgentResponse, Status> {
        let first = talk.incoming.message().await?.and_then(|m| m.step);
        let Some(attest_agent_request::Step::Params(params)) = first else {
            return Err(Status::invalid_argument("an attestation starts with its parameters"));
        };
        let data = params.data.ok_or_else(|| Status::invalid_argument("`data` is missing"))?;
        let csr = params.params.ok_or_else(|| Status::invalid_argument("`params` is missing"))?.csr;
        if data.payload.len() > MAX_EVIDENCE {
            return Err(Status::invalid_argument("the attestation payload is too long"));
        }
        let verifier = self.0.verifiers.iter().find(|v| v.method() == data.r#type).cloned().ok_or_else(|| {
            let known: Vec<_> = self.0.verifiers.iter().map(|v| v.method()).collect();
            Status::failed_precondition(format!(
                "this server does not attest nodes by `{}`; it knows: {}",
                excerpt(&data.r#type),
                known.join(", ")
            ))
        })?;
        let service = &self.0.service;
        let trust_domain = &service.settings().trust_domain;
        let evidence = Evidence { payload: &data.payload, trust_domain, now: service.now() };
        let attested = verifier.verify(evidence, talk).await.map_err(refused)?;
        // The key last: whoever proved nothing costs us no signature check.
        let key = proven_key(&csr, &self.0)?;
        let done = service.attest(new_agent(verifier.method(), &attested, key)).await.map_err(status)?;
        tracing::info!(agent = %done.node.id, method = verifier.method(), "node attested");
        let step = attest_agent_response::Step::Result(attest_agent_response::Result {
            svid: Some(svid_out(&done.node, done.svid)),
            reattestable: done.node.can_reattest,
        });
        Ok(AttestAgentResponse { step: Some(step) })
    }

    fn agent(&self, id: Option<&Spiffeid>) -> Result<SpiffeId, Status> {
        agent_in(id, &self.0.service.settings().trust_domain)
    }

    fn nodes(&self, filter: &Wanted) -> Vec<Arc<Node>> {
        self.0.service.read(|s| s.nodes.values().filter(|n| filter.admits(n)).cloned().collect())
    }
}

fn new_agent(method: &'static str, attested: &Attested, key: server_core::ports::ProvenKey) -> NewAgent {
    let join_token = attested.spends().iter().map(|Spend::JoinToken { digest }| digest.clone()).next();
    NewAgent {
        method,
        id: attested.agent().clone(),
        selectors: attested.selectors().to_vec(),
        can_reattest: attested.can_reattest(),
        join_token,
        key,
    }
}

fn refused(error: VerifyError) -> Status {
    match error {
        VerifyError::Malformed { .. } => Status::invalid_argument(error.to_string()),
        VerifyError::Refused { .. } => Status::permission_denied(error.to_string()),
        VerifyError::Unavailable { .. } => Status::unavailable(error.to_string()),
        VerifyError::Channel(_) => Status::aborted(error.to_string()),
    }
}

fn svid_out(node: &Node, svid: X509Svid) -> X509svid {
    X509svid {
        cert_chain: svid.chain,
        id: Some(spiffe_id_out(&node.id)),
        expires_at: svid.not_after.as_secs(),
        hint: String::new(),
    }
}

/// A filter that was read; every field narrows.
struct Wanted {
    method: String,
    selectors: Option<BySelectors>,
    banned: Option<bool>,
    can_reattest: Option<bool>,
    expires_before: Option<Timestamp>,
}

impl Wanted {
    fn read(f: Option<list_agents_request::Filter>) -> Result<Self, Status> {
        let f = f.unwrap_or_default();
        let expires_before = match f.by_expires_before.as_str() {
            "" => None,
            text => Some(time_in(text).ok_or_else(|| Status::invalid_argument(A_TIME))?),
        };
        Ok(Self {
            method: f.by_attestation_type,
            selectors: BySelectors::read(f.by_selector_match.as_ref())?,
            banned: f.by_banned,
            can_reattest: f.by_can_reattest,
            expires_before,
        })
    }

    fn admits(&self, n: &Node) -> bool {
        (self.method.is_empty() || n.attestation_type == self.method)
            && self.selectors.as_ref().is_none_or(|s| s.admits(&n.selectors))
            && self.banned.is_none_or(|b| n.banned == b)
            && self.can_reattest.is_none_or(|b| n.can_reattest == b)
            && self.expires_before.is_none_or(|t| n.expires_at < t)
    }
}

const A_TIME: &str = "by_expires_before is a time such as 2026-01-02T15:04:05Z or `2026-01-02 15:04:05 +0000 +00`";

/// An RFC 3339 time, or one as SPIRE's command line writes it: date, time, offset, and the offset's hours again.
fn time_in(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let parts: Vec<&str> = text.splitn(5, ' ').collect();
    let [date, time, offset, zone] = parts[..] else { return None };
    let (hours, minutes) = (offset.get(..3)?, offset.get(3..)?);
    (zone == hours).then(|| format!("{date}T{time}{hours}:{minutes}").parse().ok()).flatten()
}

fn mask(mut a: Agent, mask: Option<&AgentMask>) -> Agent {
    let Some(m) = mask else { return a };
    let blank = Agent { id: a.id.clone(), ..Agent::default() };
    macro_rules! keep {
        ($($field:ident),*) => { $( if !m.$field { a.$field = blank.$field.clone(); } )* };
    }
    keep!(
        attestation_type,
        x509svid_serial_number,
        x509svid_expires_at,
        selectors,
        banned,
        can_reattest,
        agent_version
    );
    a
}

#[tonic::async_trait]
impl Api_ for Service {
    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        operator(&self.0, &request)?;
        let filter = request.into_inner().filter.map(|f: count_agents_request::Filter| list_agents_request::Filter {
            by_attestation_type: f.by_attestation_type,
            by_selector_match: f.by_selector_match,
            by_banned: f.by_banned,
            by_can_reattest: f.by_can_reattest,
            by_expires_before: f.by_expires_before,
        });
        let count = self.nodes(&Wanted::read(filter)?).len();
        Ok(Response::new(CountAgentsResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        operator(&self.0, &request)?;
        let request = request.into_inner();
        let page = Page::read(&request.page_token, request.page_size)?;
        let found = self.nodes(&Wanted::read(request.filter)?);
        let (found, next_page_token) = page.cut(found, |n| n.id.to_string());
        let agents = found.iter().map(|n| mask(node_out(n), request.output_mask.as_ref())).collect();
        Ok(Response::new(ListAgentsResponse { agents, next_page_token }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Result<Response<Agent>, Status> {
        operator(&self.0, &request)?;
        let request = request.into_inner();
        let id = self.agent(request.id.as_ref())?;
        let node = self.0.service.read(|s| s.nodes.get(&id).cloned());
        let node =
            node.ok_or_else(|| Status::not_found(format!("agent `{}` does not exist", excerpt(&id.to_string()))))?;
        Ok(Response::new(mask(node_out(&node), request.output_mask.as_ref())))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let operator = operator(&self.0, &request)?;
        let id = self.agent(request.into_inner().id.as_ref())?;
        self.0.service.node_evict(&id, operator).await.map_err(status)?;
        Ok(Response::new(()))
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let operator = operator(&self.0, &request)?;
        let id = self.agent(request.into_inner().id.as_ref())?;
        self.0.service.node_ban(&id, operator).await.map_err(status)?;
        Ok(Response::new(()))
    }

    type AttestAgentStream = Pin<Box<dyn Stream<Item = Result<AttestAgentResponse, Status>> + Send>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let ip = request.extensions().get::<Peer>().and_then(Peer::ip);
        if !self.0.limits.may_attest(ip) {
            return Err(Status::resource_exhausted("too many attestations from this address; wait a second"));
        }
        let (answers, rx) = mpsc::channel(1);
        let mut talk = Conversation { incoming: request.into_inner(), answers: answers.clone(), turns: 0 };
        let service = Self(self.0.clone());
        tokio::spawn(async move {
            let clock = service.0.service.ports().clock.clone();
            let answer = tokio::select! {
                answer = service.attest(&mut talk) => answer,
                () = clock.sleep(ATTEST_WITHIN) => Err(Status::deadline_exceeded("the attestation took longer than 30s")),
            };
            // The agent may have hung up; the journal has what happened.
            let _ = answers.send(answer).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn renew_agent(&self, request: Request<RenewAgentRequest>) -> Result<Response<RenewAgentResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let csr = request.into_inner().params.ok_or_else(|| Status::invalid_argument("`params` is missing"))?.csr;
        let key = proven_key(&csr, &self.0)?;
        let svid = self.0.service.agent_renew(&caller, key).await.map_err(status)?;
        Ok(Response::new(RenewAgentResponse { svid: Some(svid_out(caller.node(), svid)) }))
    }

    async fn create_join_token(&self, request: Request<CreateJoinTokenRequest>) -> Result<Response<JoinToken>, Status> {
        let operator = operator(&self.0, &request)?;
        let request = request.into_inner();
        let ttl = u64::try_from(request.ttl).map_err(|_| Status::invalid_argument("ttl is negative"))?;
        let td = &self.0.service.settings().trust_domain;
        let alias = request.agent_id.as_ref().map(|id| member_in(Some(id), "agent_id", td)).transpose()?;
        let wanted = (!request.token.is_empty()).then_some(request.token);
        let (token, expires_at) =
            self.0.service.join_token(Duration::from_secs(ttl), wanted, alias, operator).await.map_err(status)?;
        Ok(Response::new(JoinToken { value: token.expose().clone(), expires_at: expires_at.as_secs() }))
    }

    async fn post_status(&self, request: Request<PostStatusRequest>) -> Result<Response<PostStatusResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        if !self.0.limits.may_post_status(request.extensions().get::<Peer>().and_then(Peer::ip)) {
            return Err(Status::resource_exhausted("too many statuses from this address; wait a second"));
        }
        let version = request.into_inner().agent_version;
        self.0.service.agent_status(&caller, &version).await.map_err(status)?;
        Ok(Response::new(PostStatusResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_rfc_3339_has_it_and_as_spires_command_line_has_it() {
        let noon = Timestamp::from_secs(1_795_003_200);
        for good in [
            "2026-11-18T12:00:00Z",
            "2026-11-18T13:00:00+01:00",
            "2026-11-18 12:00:00 +0000 +00",
            "2026-11-18 13:00:00 +0100 +01",
            "2026-11-18 17:30:00 +0530 +05",
            "2026-11-18 05:00:00 -0700 -07",
        ] {
            assert_eq!(time_in(good), Some(noon), "{good}");
        }
        for bad in [
            "yesterday",
            "2026-11-18",
            "2026-11-18 12:00:00",
            "2026-11-18 12:00:00 +0000",
            "2026-11-18 12:00:00 +0000 UTC",
            "2026-11-18 13:00:00 +0100 +02",
            "2026-11-18 12:00:00 +0000 +00 x",
            "2026-13-18 12:00:00 +0000 +00",
            "2026-11-18 12:00:00 +é00 +é",
        ] {
            assert_eq!(time_in(bad), None, "{bad}");
        }
    }
}
