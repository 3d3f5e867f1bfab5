//! Who calls `/oauth2/*`: proven by the certificate of the connection, by the admin socket, or, for an exchange, by a
//! JWT-SVID sent as an assertion. What these answer is evidence; nothing else makes it.

use super::{refuse, unavailable};
use crate::Service;
use proto_jose::{Expect, VerifiedJwt, verify_jwt};
use proto_types::{KeyUse, Record, Secret, SpiffeId, Task, Timestamp, id::is_task_path};
use server_core::{
    exchange::{Asker, OAuthCode, OAuthError},
    ports::{Claim, Commit, Guard},
};
use std::sync::Arc;

/// The namespace in which assertions are spent.
const SPENT: &str = "client_assertion";

/// A caller of the token endpoint, in the live task that its SVID is of.
/// Made by [`Service::exchange_caller`] and [`Service::asserted_caller`] only.
#[derive(Clone, Debug)]
pub struct ExchangeCaller {
    pub(super) id: SpiffeId,
    pub(super) task: Arc<Task>,
    pub(super) proof: Proof,
}

/// How a caller proved itself.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    /// By its key, over mTLS: SHA-256 of the certificate, to which a task token is bound.
    Certificate([u8; 32]),
    /// By a JWT-SVID that whoever has it could send: good once, and only where policy waives binding.
    Assertion(Claim),
}

/// Somebody who may ask about tokens and end them. Made by [`Service::token_caller`] and [`TokenCaller::operator`] only:
/// never of a bearer token, which whoever it leaked to could ask about and end.
#[derive(Clone, Debug)]
pub struct TokenCaller(Asker);

impl TokenCaller {
    /// For the transport that knows operators alone: asserts that the caller is one, by name.
    pub fn operator(name: String) -> Self {
        Self(Asker::Operator(name))
    }
    pub(super) fn asker(&self) -> &Asker {
        &self.0
    }
    /// The SPIFFE ID it proved, where it is no operator.
    pub fn spiffe_id(&self) -> Option<String> {
        match &self.0 {
            Asker::Operator(_) => None,
            Asker::Task { id, workload } => Some(format!("{workload}/task/{id}")),
            Asker::Workload(id) => Some(id.to_string()),
        }
    }
}

impl Service {
    /// Who calls the token endpoint: the SVID's serial must have been issued here, for a task that lives.
    pub async fn exchange_caller(
        &self,
        id: &SpiffeId,
        serial: &str,
        cert_sha256: [u8; 32],
    ) -> Result<ExchangeCaller, OAuthError> {
        let task = self.surely(|| self.task_of_certificate(id, serial)).await?;
        Ok(ExchangeCaller { id: id.clone(), task, proof: Proof::Certificate(cert_sha256) })
    }

    /// Who calls the token endpoint without a certificate: the assertion must be the JWT-SVID of a task that lives.
    /// Whether it may be enough is asked of policy, and it is spent, before anything comes of it.
    pub async fn asserted_caller(&self, assertion: &Secret<String>) -> Result<ExchangeCaller, OAuthError> {
        let (id, verified) = self.verify_assertion(assertion)?;
        let over = "the client_assertion is not the JWT-SVID of a live task; fetch it inside the task";
        let task = || self.live_task(&id).ok_or_else(|| refuse(OAuthCode::InvalidClient, over));
        let task = self.surely(task).await?;
        let jti = verified.text("jti").unwrap_or_default().as_bytes().to_vec();
        let claim = Claim { kind: SPENT, key: jti, expires_at: verified.expires_at() };
        Ok(ExchangeCaller { id, task, proof: Proof::Assertion(claim) })
    }

    /// Who asks about a token over mTLS: a live task, or a workload.
    pub async fn token_caller(&self, id: &SpiffeId, serial: &str) -> Result<TokenCaller, OAuthError> {
        let known = || match is_task_path(id.path()) {
            true => self.task_of_certificate(id, serial).map(|task| TokenCaller(of_task(&task))),
            false => self.workload_of_certificate(id),
        };
        self.surely(known).await
    }

    /// A workload that an entry still gives this identity. Agents and the server itself are none.
    fn workload_of_certificate(&self, id: &SpiffeId) -> Result<TokenCaller, OAuthError> {
        if id.path().starts_with("/spire/") || !self.read(|s| s.entries.is_registered(id)) {
            let why = "this certificate is not that of a workload with an entry; use a workload's or a task's";
            return Err(refuse(OAuthCode::InvalidClient, why));
        }
        Ok(TokenCaller(Asker::Workload(id.clone())))
    }

    /// A JWT-SVID of this trust domain for this issuer alone, and who it names.
    fn verify_assertion(&self, assertion: &Secret<String>) -> Result<(SpiffeId, VerifiedJwt), OAuthError> {
        let settings = &self.inner.settings;
        let expect = Expect::client_assertion(settings.issuer.clone(), settings.trust_domain.clone());
        let keys = self.own_keys(KeyUse::JwtSvid)?;
        let refused = |why: String| refuse(OAuthCode::InvalidClient, format!("the client_assertion is refused: {why}"));
        let verified =
            verify_jwt(assertion.expose(), &expect, &keys, self.now()).map_err(|e| refused(e.to_string()))?;
        // A JWT-SVID needs no issuer; one that names another was made to be read elsewhere.
        if verified.claims().get("iss").is_some_and(|iss| *iss != settings.issuer.as_str()) {
            return Err(refused("its issuer is not this one".into()));
        }
        let id = verified.spiffe_id().cloned().ok_or_else(|| refused("it names no SPIFFE ID".into()))?;
        Ok((id, verified))
    }

    fn task_of_certificate(&self, id: &SpiffeId, serial: &str) -> Result<Arc<Task>, OAuthError> {
        let task = self.read(|s| s.tasks.get(s.serials.get(serial)?).cloned());
        let task = task.ok_or_else(|| {
            refuse(
                OAuthCode::InvalidClient,
                "this certificate is not the SVID of a live task; exchange from inside a task (errand run, errand exchange)",
            )
        })?;
        if id.to_string() != task.spiffe_id() || !is_alive(&task, self.now()) {
            return Err(refuse(OAuthCode::InvalidClient, "the task of this certificate is over; start a new one"));
        }
        Ok(task)
    }

    /// The live task whose own identity this is.
    pub(super) fn live_task(&self, id: &SpiffeId) -> Option<Arc<Task>> {
        let task = id.path().rsplit('/').next()?.parse().ok()?;
        let task = self.read(|s| s.tasks.get(&task).cloned())?;
        (task.spiffe_id() == id.to_string() && is_alive(&task, self.now())).then_some(task)
    }

    /// Spends the assertion, durably and once, before anything comes of it: not even an answer that is kept for its
    /// `Idempotency-Key` goes to somebody who sends it again.
    pub(super) async fn spend(&self, caller: &ExchangeCaller, claim: &Claim, now: Timestamp) -> Result<(), OAuthError> {
        let task = &caller.task;
        let record = Record::new(now, "client.authenticated")
            .workload(&task.workload)
            .task(task.id)
            .node(&task.node)
            .credential("jwt", String::from_utf8_lossy(&claim.key));
        let mut unit = Commit::of(record).when(Guard::Unclaimed(claim.clone()));
        for guard in self.path(task).map_err(unavailable)? {
            unit = unit.when(guard);
        }
        match self.commit(unit).await {
            Ok(_) => Ok(()),
            Err(crate::ServiceError::Conflict(_)) => Err(refuse(
                OAuthCode::InvalidClient,
                "the client_assertion was used before and is good once; fetch a new JWT-SVID",
            )),
            Err(error) => Err(unavailable(error)),
        }
    }
}

pub(super) fn is_alive(task: &Task, now: Timestamp) -> bool {
    task.is_live() && task.ends_at > now
}

fn of_task(task: &Task) -> Asker {
    Asker::Task { id: task.id, workload: task.workload.clone() }
}
