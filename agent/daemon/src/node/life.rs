//! From no identity to one, and from one to the next: attest, renew at half-life, and obey a refusal.
//!
//! A refusal that says "this node is none of mine" drops everything at once: entries, SVIDs, tasks. One that says "this
//! certificate is over" drops the certificate only: what workloads hold stays theirs until it expires.

use super::{BACKOFF_CAP, attest::attest, kept::Kept};
use crate::{
    bundle::TrustBundle,
    config::{Bootstrap, Servers},
    disk::keeper,
    identity::Identity,
    keys::KeyRequest,
    shared::{AgentStatus, Generation, Shared},
    trouble::About,
    upstream::{Refusal, Upstream, timed},
    x509::X509Svid,
};
use agent_core::{cache::Update, rotation};
use proto_attest::Prover;
use proto_types::Timestamp;
use proto_wire::spire::api::server::{
    agent::v1::{AgentX509svidParams, RenewAgentRequest},
    bundle::v1::GetBundleRequest,
};
use std::sync::Arc;

/// Minds the agent's identity.
pub struct Life {
    pub shared: Arc<Shared>,
    pub prover: Arc<dyn Prover>,
    pub kept: Arc<Kept>,
    pub bootstrap: Bootstrap,
    pub servers: Servers,
}

/// What to do next.
enum Next {
    Go,
    /// Nothing more can be done without an operator.
    Lost,
}

impl Life {
    pub async fn run(self) {
        loop {
            let next = match self.shared.identity.get() {
                None => self.attest().await,
                Some(identity) => self.mind(&identity).await,
            };
            if matches!(next, Next::Lost) {
                return;
            }
        }
    }

    /// Attests until it succeeds. A refusal may be about a token that is not there yet; the file may hold another soon.
    async fn attest(&self) -> Next {
        let mut failures = 0u32;
        loop {
            match self.attest_once().await {
                Ok(identity) => {
                    let identity = Arc::new(identity);
                    tracing::info!(id = %identity.svid.spiffe_id, until = %identity.svid.not_after, "this node is attested");
                    if let Err(e) = self.kept.put(&self.shared, &identity, self.prover.method(), false).await {
                        tracing::error!(error = %e, "the agent's identity cannot be written down; it lasts until the agent stops");
                    }
                    self.shared.troubles.clear(About::Attestation);
                    self.shared.set_identity(Some(identity));
                    return Next::Go;
                }
                Err(why) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(%why, attempt = failures, "this node is not attested");
                    self.shared.troubles.set(About::Attestation, format!("this node is not attested: {why}"));
                }
            }
            let wait = self.shared.ports.backoff(failures, BACKOFF_CAP);
            self.shared.ports.clock.sleep(wait).await;
        }
    }

    async fn attest_once(&self) -> Result<Identity, String> {
        // What proves a node may be spent by it: not for an identity that cannot be kept.
        keeper::look(&self.shared).await.map_err(|e| e.to_string())?;
        if self.shared.bundle.load().is_none() {
            self.first_bundle().await?;
        }
        let attested =
            attest(&self.shared.upstream, &*self.prover, &self.shared.trust_domain, &*self.shared.ports.clock).await;
        attested.map_err(|e| match e.is_final() {
            true => format!("{e}; attest it with a new token"),
            false => self.shared.upstream.unreached().map_or_else(|| e.to_string(), |why| why.to_string()),
        })
    }

    /// Without a bundle from the operator: the one of whoever answers.
    async fn first_bundle(&self) -> Result<(), String> {
        if self.bootstrap != Bootstrap::Insecure {
            return Err("there is no trust bundle".into());
        }
        tracing::warn!("danger_insecure_bootstrap: believing the first server that answers");
        let open = Upstream::danger_unverified(&self.servers, &self.shared.ports).map_err(|e| e.to_string())?;
        let answer = open.bundles().get_bundle(timed(GetBundleRequest { output_mask: None })).await;
        let answer = answer.map_err(|s| format!("{:?}: {}", s.code(), open.why(&s)))?;
        let bundle = TrustBundle::from_wire(answer.get_ref(), &self.shared.trust_domain).map_err(|e| e.to_string())?;
        self.shared.set_bundle(Arc::new(bundle)).await;
        Ok(())
    }

    /// Waits for the half-life, a refusal or the end, whichever is first.
    async fn mind(&self, identity: &Arc<Identity>) -> Next {
        let svid = &identity.svid;
        let mut due = rotation::due(svid.not_before, svid.not_after, self.shared.ports.jitter());
        let mut failures = 0u32;
        let generation = *self.shared.generation.borrow();
        loop {
            tokio::select! {
                refusal = self.refused(generation) => return self.obey(refusal).await,
                () = self.shared.ports.sleep_until(due) => {}
            }
            let now = self.shared.ports.clock.now();
            if now >= svid.not_after {
                return self.obey(Refusal::Expired).await;
            }
            match self.renew(identity).await {
                Ok(()) => return Next::Go,
                Err(None) => {}
                Err(Some(status)) => {
                    self.shared.note_refusal(&status, generation);
                    let why = self.shared.upstream.why(&status);
                    let until = svid.not_after;
                    tracing::warn!(code = ?status.code(), %why, %until, "the agent's SVID is not renewed");
                    let text = format!("the agent's SVID, good until {until}, is not renewed: {why}");
                    self.shared.troubles.set(About::Renewal, text);
                }
            }
            failures = failures.saturating_add(1);
            due = self.again_at(now, failures, svid.not_after);
        }
    }

    fn again_at(&self, now: Timestamp, failures: u32, not_after: Timestamp) -> Timestamp {
        now.plus(self.shared.ports.backoff(failures, BACKOFF_CAP)).min(not_after)
    }

    /// Completes with a refusal of this identity.
    async fn refused(&self, generation: Generation) -> Refusal {
        let mut refusals = self.shared.refused.subscribe();
        loop {
            if let Some((of, refusal)) = *refusals.borrow_and_update()
                && of == generation
            {
                return refusal;
            }
            if refusals.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// `Err(None)`: the failure is here and has been reported.
    async fn renew(&self, identity: &Identity) -> Result<(), Option<tonic::Status>> {
        let here = |what: &dyn std::fmt::Display| tracing::error!(error = %what, "the agent's SVID cannot be renewed");
        let request = KeyRequest::generate().map_err(|e| {
            here(&e);
            None
        })?;
        // Not asked for in vain: each is recorded.
        keeper::look(&self.shared).await.map_err(|e| {
            here(&e);
            None
        })?;
        let params = Some(AgentX509svidParams { csr: request.csr.clone() });
        let answer =
            self.shared.upstream.agents().renew_agent(timed(RenewAgentRequest { params })).await.map_err(Some)?;
        let svid = answer.into_inner().svid.unwrap_or_default();
        let renewed = X509Svid::accept(&svid, request, Some(&identity.svid.spiffe_id))
            .and_then(|svid| Identity::new(svid, identity.reattestable));
        let renewed = Arc::new(renewed.map_err(|e| {
            here(&e);
            None
        })?);
        // On disk before it is used: once the server has seen the new serial, the old one is worth nothing.
        self.kept.put(&self.shared, &renewed, self.prover.method(), true).await.map_err(|e| {
            here(&e);
            None
        })?;
        tracing::info!(until = %renewed.svid.not_after, "the agent's SVID is renewed");
        self.shared.troubles.clear(About::Renewal);
        self.shared.set_identity(Some(renewed));
        Ok(())
    }

    async fn obey(&self, refusal: Refusal) -> Next {
        if refusal == Refusal::NotActive
            && let Ok(Some(previous)) = self.kept.fall_back(&self.shared).await
        {
            tracing::warn!("the server does not know the agent's newest SVID; going back to the one before");
            self.shared.set_identity(Some(previous));
            return Next::Go;
        }
        let why = match refusal {
            Refusal::Banned => "this node is banned",
            Refusal::NotAttested => "the server does not know this node: it was evicted",
            Refusal::NotActive => "the agent's SVID is not the one the server gave it last",
            Refusal::Expired => "the agent's SVID has expired",
            Refusal::MustReattest => "the server wants this node to be attested again",
        };
        tracing::error!(why, "the agent's identity is lost");
        if let Err(e) = self.kept.drop_all(&self.shared).await {
            tracing::error!(error = %e, "the lost identity cannot be removed from the disk");
        }
        self.shared.troubles.clear(About::Renewal);
        self.shared.troubles.set(About::Attestation, format!("{why}; it is being attested again"));
        self.shared.set_identity(None);
        if matches!(refusal, Refusal::Banned | Refusal::NotAttested) {
            self.forget_everything();
        }
        if self.prover.can_reattest() {
            return Next::Go;
        }
        let advice = "make a new token with `errand node token`, configure it and start the agent again";
        self.shared.set_status(AgentStatus::Lost { why: format!("{why}; {advice}") });
        Next::Lost
    }

    fn forget_everything(&self) {
        self.shared.tasks.end_all_here("node_banned");
        self.shared.identities.retain_jwts(|_| false);
        if let Err(e) = self.shared.identities.apply(Update::Snapshot(Vec::new())) {
            tracing::error!(error = %e, "the entries cannot be dropped");
        }
    }
}
