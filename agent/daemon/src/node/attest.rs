//! One attestation: the configured method's prover speaks over the `AttestAgent` stream, and the answer is an SVID for
//! the key made here.

use crate::{
    identity::Identity,
    keys::{KeyError, KeyRequest},
    upstream::{CALL_LIMIT, Upstream},
    x509::{SvidError, X509Svid},
};
use proto_attest::{ChannelError, ProveError, Prover, ProverChannel, channel::MAX_CHALLENGES, channel::MAX_EVIDENCE};
use proto_types::{Clock, Fut, Secret, TrustDomain};
use proto_wire::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, attest_agent_request as ask,
        attest_agent_response as answer,
    },
    types::AttestationData,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Why the node was not attested.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttestFailure {
    #[error(transparent)]
    Prove(#[from] ProveError),
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The server's answer; it decided, or it could not be reached.
    #[error("the server answered {code:?}: {message}")]
    Server { code: Code, message: String },
    #[error("the server's answer cannot be used: {0}")]
    Svid(#[from] SvidError),
    #[error("the server gave this node an identity that is no agent's of its trust domain")]
    NotAnAgent,
    #[error("the server did not decide")]
    Undecided,
    #[error("the attestation took longer than {CALL_LIMIT:?}")]
    TooSlow,
}

impl AttestFailure {
    /// Whether the same evidence will be refused again: a server that cannot be reached has refused nothing.
    pub fn is_final(&self) -> bool {
        let decided = [Code::PermissionDenied, Code::InvalidArgument, Code::Unauthenticated, Code::NotFound];
        matches!(self, Self::Server { code, .. } if decided.contains(code))
    }
}

impl From<Status> for AttestFailure {
    fn from(status: Status) -> Self {
        Self::Server { code: status.code(), message: proto_types::id::excerpt(status.message()) }
    }
}

/// Attests the node.
pub async fn attest(
    upstream: &Upstream,
    prover: &dyn Prover,
    td: &TrustDomain,
    clock: &dyn Clock,
) -> Result<Identity, AttestFailure> {
    tokio::select! {
        done = converse(upstream, prover, td) => done,
        () = clock.sleep(CALL_LIMIT) => Err(AttestFailure::TooSlow),
    }
}

async fn converse(upstream: &Upstream, prover: &dyn Prover, td: &TrustDomain) -> Result<Identity, AttestFailure> {
    let request = KeyRequest::generate()?;
    let mut talk = Conversation {
        upstream,
        method: prover.method(),
        csr: request.csr.clone(),
        outgoing: None,
        incoming: None,
        turns: 0,
        outcome: None,
    };
    let proved = prover.prove(&mut talk).await;
    let result = match (proved, talk.outcome) {
        (_, Some(Err(status))) => return Err(status.into()),
        (Err(e), _) => return Err(e.into()),
        (Ok(()), Some(Ok(result))) => result,
        (Ok(()), None) => return Err(AttestFailure::Undecided),
    };
    let svid = X509Svid::accept(&result.svid.ok_or(AttestFailure::Undecided)?, request, None)?;
    let is_agent = svid.spiffe_id.trust_domain() == td && svid.spiffe_id.path().starts_with("/spire/agent/");
    if !is_agent {
        return Err(AttestFailure::NotAnAgent);
    }
    Ok(Identity::new(svid, result.reattestable)?)
}

/// The prover's channel over one `AttestAgent` call.
struct Conversation<'a> {
    upstream: &'a Upstream,
    method: &'static str,
    csr: Vec<u8>,
    outgoing: Option<mpsc::Sender<AttestAgentRequest>>,
    incoming: Option<Streaming<AttestAgentResponse>>,
    turns: usize,
    outcome: Option<Result<answer::Result, Status>>,
}

impl Conversation<'_> {
    async fn exchange(&mut self, evidence: Secret<Vec<u8>>) -> Result<Option<Vec<u8>>, ChannelError> {
        if evidence.expose().len() > MAX_EVIDENCE {
            return Err(ChannelError::TooLong(evidence.expose().len()));
        }
        self.turns += 1;
        if self.turns > MAX_CHALLENGES + 1 {
            return Err(ChannelError::TooManyTurns);
        }
        match self.next(evidence).await {
            Ok(answer::Step::Challenge(challenge)) if challenge.len() <= MAX_EVIDENCE => Ok(Some(challenge)),
            Ok(answer::Step::Challenge(challenge)) => Err(ChannelError::TooLong(challenge.len())),
            Ok(answer::Step::Result(result)) => {
                self.outcome = Some(Ok(result));
                Ok(None)
            }
            Err(status) => {
                let words = proto_types::id::excerpt(status.message());
                self.outcome = Some(Err(status));
                Err(ChannelError::Failed(words))
            }
        }
    }

    async fn next(&mut self, evidence: Secret<Vec<u8>>) -> Result<answer::Step, Status> {
        let step = match self.outgoing {
            None => ask::Step::Params(ask::Params {
                data: Some(AttestationData { r#type: self.method.into(), payload: evidence.expose().clone() }),
                params: Some(AgentX509svidParams { csr: self.csr.clone() }),
            }),
            Some(_) => ask::Step::ChallengeResponse(evidence.expose().clone()),
        };
        let message = AttestAgentRequest { step: Some(step) };
        let ended = || Status::unavailable("the server ended the attestation");
        if self.outgoing.is_none() {
            let (tx, rx) = mpsc::channel(1);
            // Queued before the call: the server's first answer may wait for it.
            tx.try_send(message).map_err(|_| ended())?;
            let response = self.upstream.agents().attest_agent(ReceiverStream::new(rx)).await?;
            (self.outgoing, self.incoming) = (Some(tx), Some(response.into_inner()));
        } else if let Some(tx) = &self.outgoing {
            tx.send(message).await.map_err(|_| ended())?;
        }
        let incoming = self.incoming.as_mut().ok_or_else(ended)?;
        incoming.message().await?.and_then(|m| m.step).ok_or_else(ended)
    }
}

impl ProverChannel for Conversation<'_> {
    fn send(&mut self, evidence: Secret<Vec<u8>>) -> Fut<'_, Result<Option<Vec<u8>>, ChannelError>> {
        Box::pin(self.exchange(evidence))
    }
}
