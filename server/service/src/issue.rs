//! Issuing SVIDs: to agents for their entries and tasks, and minting by an operator.
//!
//! Sign on the caller's own task, commit the record in a group with everybody else's, release with the evidence. The
//! entry decides what the certificate says; of the request only the proven key is used.

use crate::{AgentCaller, Service, ServiceError};
use proto_types::{EntryId, KeyUse, Record, Secret, SpiffeId, Task, TaskId, Timestamp, WorkloadId};
use serde_json::json;
use server_core::{
    ports::{Commit, Guard, JwtTemplate, ProvenKey, Write, X509Svid, X509Template},
    task::path_guards,
};
use std::{sync::Arc, time::Duration};

/// NotBefore stands this far back, for clocks that are a little behind.
const BACKDATE: Duration = Duration::from_secs(10);
/// Most audiences of one token, and the longest.
const MAX_AUDIENCES: usize = 16;
const MAX_AUDIENCE: usize = 512;

#[derive(Debug)]
pub struct IssuedX509 {
    pub svid: X509Svid,
    pub id: SpiffeId,
    pub hint: String,
}

#[derive(Debug)]
pub struct IssuedJwt {
    pub token: Secret<String>,
    pub id: SpiffeId,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub hint: String,
}

impl Service {
    /// An X509-SVID for an entry the agent is entitled to.
    pub async fn x509_for_entry(
        &self,
        caller: &AgentCaller,
        entry: &EntryId,
        key: &ProvenKey,
    ) -> Result<IssuedX509, ServiceError> {
        let entry = self.entitled(caller, entry)?;
        let ttl = or_default(entry.x509_svid_ttl, self.inner.settings.x509_svid_ttl);
        let svid = self.sign_x509(entry.spiffe_id.clone(), entry.dns_names.clone(), ttl, None, key).await?;
        let record = Record::new(self.now(), "svid.minted")
            .workload(&entry.spiffe_id)
            .node(caller.id())
            .credential("x509", &svid.serial)
            .detail(json!({ "entry_id": entry.id, "not_after": svid.not_after }));
        let _released = self.commit(Commit::of(record)).await?;
        Ok(IssuedX509 { svid, id: entry.spiffe_id.clone(), hint: entry.hint.clone() })
    }

    /// A JWT-SVID for an entry the agent is entitled to.
    pub async fn jwt_for_entry(
        &self,
        caller: &AgentCaller,
        entry: &EntryId,
        audience: &[String],
    ) -> Result<IssuedJwt, ServiceError> {
        let entry = self.entitled(caller, entry)?;
        let ttl = or_default(entry.jwt_svid_ttl, self.inner.settings.jwt_svid_ttl);
        let (jwt, jti) = self.sign_jwt_svid(&entry.spiffe_id, audience, ttl, None).await?;
        let record = Record::new(self.now(), "jwt_svid.minted")
            .workload(&entry.spiffe_id)
            .node(caller.id())
            .credential("jwt", jti)
            .detail(json!({ "entry_id": entry.id, "audience": audience, "not_after": jwt.expires_at }));
        let _released = self.commit(Commit::of(record)).await?;
        Ok(IssuedJwt { hint: entry.hint.clone(), ..jwt })
    }

    /// An X509-SVID of a live task of this node: at most 5 minutes, never past the task.
    pub async fn x509_for_task(
        &self,
        caller: &AgentCaller,
        task: TaskId,
        key: &ProvenKey,
    ) -> Result<IssuedX509, ServiceError> {
        let task = self.task_of_node(caller, task)?;
        let id = task_identity(&task)?;
        let svid = self.sign_task_x509(&task, &id, key).await?;
        let mut unit = Commit::of(task_svid_record(&task, &svid, self.now()))
            .put(Write::TaskSerial { task: task.id, serial: svid.serial.clone(), not_after: svid.not_after });
        for guard in self.path(&task)? {
            unit = unit.when(guard);
        }
        let _released = self.commit_and_follow(unit).await?;
        Ok(IssuedX509 { svid, id, hint: "task".into() })
    }

    pub(crate) async fn sign_task_x509(
        &self,
        task: &Task,
        id: &SpiffeId,
        key: &ProvenKey,
    ) -> Result<X509Svid, ServiceError> {
        self.sign_x509(id.clone(), vec![], self.inner.settings.task_svid_ttl, Some(task.ends_at), key).await
    }

    /// A JWT-SVID of a live task of this node.
    pub async fn jwt_for_task(
        &self,
        caller: &AgentCaller,
        task: TaskId,
        audience: &[String],
    ) -> Result<IssuedJwt, ServiceError> {
        let task = self.task_of_node(caller, task)?;
        let id = task_identity(&task)?;
        let (jwt, record) = self.sign_task_jwt(&task, &id, audience).await?;
        let mut unit = Commit::of(record);
        for guard in self.path(&task)? {
            unit = unit.when(guard);
        }
        let _released = self.commit(unit).await?;
        Ok(IssuedJwt { hint: "task".into(), ..jwt })
    }

    pub(crate) async fn sign_task_jwt(
        &self,
        task: &Task,
        id: &SpiffeId,
        audience: &[String],
    ) -> Result<(IssuedJwt, Record), ServiceError> {
        let ttl = self.inner.settings.task_svid_ttl;
        let (jwt, jti) = self.sign_jwt_svid(id, audience, ttl, Some(task.ends_at)).await?;
        let record = Record::new(self.now(), "jwt_svid.minted")
            .workload(&task.workload)
            .task(task.id)
            .node(&task.node)
            .credential("jwt", jti)
            .detail(json!({ "audience": audience, "not_after": jwt.expires_at }));
        Ok((jwt, record))
    }

    /// An operator mints an X509-SVID. Paths of tasks and of the house itself are refused.
    pub async fn mint_x509(
        &self,
        id: &SpiffeId,
        dns_names: Vec<String>,
        ttl: Option<Duration>,
        key: &ProvenKey,
        operator: Option<String>,
    ) -> Result<IssuedX509, ServiceError> {
        WorkloadId::new(id.clone(), &self.inner.settings.trust_domain)?;
        let ttl = ttl.unwrap_or(self.inner.settings.x509_svid_ttl);
        let svid = self.sign_x509(id.clone(), dns_names, ttl, None, key).await?;
        let record = Record::new(self.now(), "svid.minted")
            .workload(id)
            .operator(operator)
            .credential("x509", &svid.serial)
            .detail(json!({ "minted_by": "operator", "not_after": svid.not_after }));
        let _released = self.commit(Commit::of(record)).await?;
        Ok(IssuedX509 { svid, id: id.clone(), hint: String::new() })
    }

    pub async fn mint_jwt(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: Option<Duration>,
        operator: Option<String>,
    ) -> Result<IssuedJwt, ServiceError> {
        WorkloadId::new(id.clone(), &self.inner.settings.trust_domain)?;
        let ttl = ttl.unwrap_or(self.inner.settings.jwt_svid_ttl);
        let (jwt, jti) = self.sign_jwt_svid(id, audience, ttl, None).await?;
        let record = Record::new(self.now(), "jwt_svid.minted")
            .workload(id)
            .operator(operator)
            .credential("jwt", jti)
            .detail(json!({ "minted_by": "operator", "audience": audience, "not_after": jwt.expires_at }));
        let _released = self.commit(Commit::of(record)).await?;
        Ok(jwt)
    }

    fn entitled(&self, caller: &AgentCaller, id: &EntryId) -> Result<Arc<proto_types::Entry>, ServiceError> {
        self.read(|s| s.entries.entitled(caller.node(), id).cloned())
            .ok_or_else(|| ServiceError::not_found("entry of this agent", id))
    }

    /// A live task that this agent vouches for; to another node it does not exist.
    pub(crate) fn task_of_node(&self, caller: &AgentCaller, id: TaskId) -> Result<Arc<Task>, ServiceError> {
        let task = self.read(|s| s.tasks.get(&id).cloned()).filter(|t| &t.node == caller.id());
        let task = task.ok_or(ServiceError::TaskOver)?;
        if !task.is_live() || task.ends_at <= self.now() {
            return Err(ServiceError::TaskOver);
        }
        Ok(task)
    }

    /// Guards for the task and all its ancestors.
    pub(crate) fn path(&self, task: &Task) -> Result<Vec<Guard>, ServiceError> {
        self.read(|s| path_guards(task, |id| s.tasks.get(&id).cloned())).map_err(|_| ServiceError::TaskOver)
    }

    async fn sign_x509(
        &self,
        spiffe_id: SpiffeId,
        dns_names: Vec<String>,
        ttl: Duration,
        until: Option<Timestamp>,
        key: &ProvenKey,
    ) -> Result<X509Svid, ServiceError> {
        let now = self.now();
        let not_after = until.map_or(now.plus(ttl), |end| end.min(now.plus(ttl)));
        let template = X509Template { spiffe_id, dns_names, not_before: now.minus(BACKDATE), not_after };
        Ok(self.inner.ports.minter.x509(&template, key).await?)
    }

    async fn sign_jwt_svid(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: Duration,
        until: Option<Timestamp>,
    ) -> Result<(IssuedJwt, String), ServiceError> {
        check_audience(audience)?;
        let now = self.now();
        let jti = self.inner.ports.entropy.uuid_v7(now).to_string();
        let claims = json!({ "sub": id.to_string(), "aud": audience });
        let template = JwtTemplate {
            key_use: KeyUse::JwtSvid,
            typ: "JWT",
            claims: claims.as_object().cloned().unwrap_or_default(),
            issued_at: now,
            not_before: None,
            expires_at: until.map_or(now.plus(ttl), |end| end.min(now.plus(ttl))),
            jti: jti.clone(),
        };
        let signed = self.inner.ports.minter.jwt(&template).await?;
        let jwt = IssuedJwt {
            token: signed.token,
            id: id.clone(),
            issued_at: now,
            expires_at: signed.expires_at,
            hint: String::new(),
        };
        Ok((jwt, jti))
    }
}

pub(crate) fn task_identity(task: &Task) -> Result<SpiffeId, ServiceError> {
    Ok(proto_types::id::parse_spiffe_id(&task.spiffe_id())?)
}

pub(crate) fn task_svid_record(task: &Task, svid: &X509Svid, now: Timestamp) -> Record {
    Record::new(now, "svid.minted")
        .workload(&task.workload)
        .task(task.id)
        .node(&task.node)
        .credential("x509", &svid.serial)
        .detail(json!({ "not_after": svid.not_after }))
}

fn or_default(seconds: u32, default: Duration) -> Duration {
    if seconds == 0 { default } else { Duration::from_secs(u64::from(seconds)) }
}

fn check_audience(audience: &[String]) -> Result<(), ServiceError> {
    let fail = |why: &str| Err(ServiceError::Invalid(why.into()));
    if audience.is_empty() {
        return fail("a JWT-SVID needs an audience: name who will verify it");
    }
    if audience.len() > MAX_AUDIENCES {
        return fail("a JWT-SVID has at most 16 audiences");
    }
    if audience.iter().any(|a| a.is_empty() || a.len() > MAX_AUDIENCE || a.chars().any(char::is_control)) {
        return fail("an audience has 1 to 512 characters and no control characters");
    }
    Ok(())
}
