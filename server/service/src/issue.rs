//! Issuing SVIDs: to agents for their entries and tasks, and minting by an operator.
//!
//! Sign on the caller's own task, commit the record in a group with everybody else's, release with the evidence. What
//! a certificate or token says stands in the templates of `server-core::issue`; of the request only the proven key is used.

use crate::{AgentCaller, Service, ServiceError};
use proto_types::{Entry, EntryId, Record, Secret, SpiffeId, Task, TaskId, Timestamp, WorkloadId, hold::Stopped};
use serde_json::json;
use server_core::{
    issue::{JwtSvidRequest, jwt_svid_template, task_jwt_svid_template, task_x509_template, x509_template},
    ports::{Commit, Guard, JwtTemplate, ProvenKey, Write, X509Svid},
    task::path_guards,
};
use std::sync::Arc;

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
        let entry = self.surely(|| self.entitled(caller, entry)).await?;
        let svid = self.sign_x509(&entry.spiffe_id, &entry.dns_names, entry.x509_svid_ttl, key).await?;
        let record = x509_record(&entry.spiffe_id, &svid, self.now())
            .node(caller.id())
            .detail(json!({ "entry_id": entry.id, "not_after": svid.not_after }));
        let _released = self.commit_and_follow(Commit::of(record)).await?;
        self.still_entitled(caller, &entry)?;
        Ok(IssuedX509 { svid, id: entry.spiffe_id.clone(), hint: entry.hint.clone() })
    }

    /// A JWT-SVID for an entry the agent is entitled to.
    pub async fn jwt_for_entry(
        &self,
        caller: &AgentCaller,
        entry: &EntryId,
        audience: &[String],
    ) -> Result<IssuedJwt, ServiceError> {
        let entry = self.surely(|| self.entitled(caller, entry)).await?;
        let (jwt, record) = self.sign_jwt(&entry.spiffe_id, audience, entry.jwt_svid_ttl).await?;
        let _released = self.commit_and_follow(Commit::of(record.node(caller.id()))).await?;
        self.still_entitled(caller, &entry)?;
        Ok(IssuedJwt { hint: entry.hint.clone(), ..jwt })
    }

    /// An X509-SVID of a live task of this node: at most 5 minutes, never past the task.
    pub async fn x509_for_task(
        &self,
        caller: &AgentCaller,
        task: TaskId,
        key: &ProvenKey,
    ) -> Result<IssuedX509, ServiceError> {
        let task = self.surely(|| self.task_of_node(caller, task)).await?;
        let (svid, mut unit) = self.task_x509(&task, key).await?;
        for guard in self.path(&task)? {
            unit = unit.when(guard);
        }
        let _released = self.commit_and_follow(unit).await?;
        Ok(IssuedX509 { svid, id: task_identity(&task)?, hint: "task".into() })
    }

    /// Signs, and says what must be committed before it is released.
    pub(crate) async fn task_x509(&self, task: &Task, key: &ProvenKey) -> Result<(X509Svid, Commit), ServiceError> {
        let template = task_x509_template(task, self.now(), self.inner.ports.authorities.ca_not_after())?;
        let svid = self.inner.ports.minter.x509(&template, key).await?;
        let record = x509_record(&task.workload, &svid, self.now())
            .task(task.id)
            .node(&task.node)
            .detail(json!({ "not_after": svid.not_after }));
        let serial = Write::TaskSerial { task: task.id, serial: svid.serial.clone(), not_after: svid.not_after };
        Ok((svid, Commit::of(record).put(serial)))
    }

    /// A JWT-SVID of a live task of this node.
    pub async fn jwt_for_task(
        &self,
        caller: &AgentCaller,
        task: TaskId,
        audience: &[String],
    ) -> Result<IssuedJwt, ServiceError> {
        let task = self.surely(|| self.task_of_node(caller, task)).await?;
        let (jwt, record) = self.task_jwt(&task, audience).await?;
        let mut unit = Commit::of(record);
        for guard in self.path(&task)? {
            unit = unit.when(guard);
        }
        let _released = self.commit(unit).await?;
        Ok(jwt)
    }

    /// Signs, and says what must be recorded before it is released.
    pub(crate) async fn task_jwt(&self, task: &Task, audience: &[String]) -> Result<(IssuedJwt, Record), ServiceError> {
        let now = self.now();
        let jti = self.inner.ports.entropy.uuid_v7(now).to_string();
        let taken = |a: &str| self.is_of_a_target(a);
        let request = JwtSvidRequest { audiences: audience, issuer: None, jti: &jti, reserved: &taken, now };
        let template = task_jwt_svid_template(task, &request)?;
        let jwt = self.sign_template(template, task_identity(task)?, "task").await?;
        let record = jwt_record(&task.workload, &jti, audience, jwt.expires_at, now).task(task.id).node(&task.node);
        Ok((jwt, record))
    }

    /// An operator mints an X509-SVID. Paths of tasks and of the house itself are refused.
    pub async fn mint_x509(
        &self,
        id: &SpiffeId,
        dns_names: &[String],
        ttl: u32,
        key: &ProvenKey,
        operator: Option<String>,
    ) -> Result<IssuedX509, ServiceError> {
        WorkloadId::new(id.clone(), &self.inner.settings.trust_domain)?;
        let free = self.not_held(&Stopped::workload(id))?;
        let svid = self.sign_x509(id, dns_names, ttl, key).await?;
        let record = x509_record(id, &svid, self.now())
            .operator(operator)
            .detail(json!({ "minted_by": "operator", "not_after": svid.not_after }));
        let _released = self.commit(Commit::of(record).when(free)).await?;
        Ok(IssuedX509 { svid, id: id.clone(), hint: String::new() })
    }

    pub async fn mint_jwt(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: u32,
        operator: Option<String>,
    ) -> Result<IssuedJwt, ServiceError> {
        WorkloadId::new(id.clone(), &self.inner.settings.trust_domain)?;
        let free = self.not_held(&Stopped::workload(id))?;
        let (jwt, record) = self.sign_jwt(id, audience, ttl).await?;
        let _released = self.commit(Commit::of(record.operator(operator)).when(free)).await?;
        Ok(jwt)
    }

    fn entitled(&self, caller: &AgentCaller, id: &EntryId) -> Result<Arc<Entry>, ServiceError> {
        let entry = self.read(|s| s.entries.entitled(caller.node(), id).cloned());
        let entry = entry.ok_or_else(|| ServiceError::not_found("entry of this agent", id))?;
        self.not_held(&Stopped::workload(&entry.spiffe_id).on(caller.id()))?;
        Ok(entry)
    }

    /// Asked again before release, when this server's memory has passed the record: a ban, a hold or a changed entry that any
    /// server committed before it wins. In memory, so that the issuing path reads no database.
    fn still_entitled(&self, caller: &AgentCaller, entry: &Entry) -> Result<(), ServiceError> {
        self.agent(caller.id(), caller.serial())?;
        let now = self.entitled(caller, &entry.id)?;
        if now.revision == entry.revision {
            Ok(())
        } else {
            Err(ServiceError::not_found("entry of this agent", &entry.id))
        }
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

    /// Guards for the task and all its ancestors, and against a hold.
    pub(crate) fn path(&self, task: &Task) -> Result<Vec<Guard>, ServiceError> {
        let path = self.read(|s| path_guards(task, |id| s.tasks.get(&id).cloned()));
        let mut guards = path.map_err(|_| ServiceError::TaskOver)?;
        guards.push(self.not_held(&Stopped::task(task))?);
        Ok(guards)
    }

    async fn sign_x509(
        &self,
        id: &SpiffeId,
        dns_names: &[String],
        ttl: u32,
        key: &ProvenKey,
    ) -> Result<X509Svid, ServiceError> {
        let ca_end = self.inner.ports.authorities.ca_not_after();
        let template = x509_template(id, dns_names, ttl, &self.inner.settings.ttls, self.now(), ca_end)?;
        Ok(self.inner.ports.minter.x509(&template, key).await?)
    }

    async fn sign_jwt(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: u32,
    ) -> Result<(IssuedJwt, Record), ServiceError> {
        let now = self.now();
        let jti = self.inner.ports.entropy.uuid_v7(now).to_string();
        let taken = |a: &str| self.is_of_a_target(a);
        let request = JwtSvidRequest { audiences: audience, issuer: None, jti: &jti, reserved: &taken, now };
        let template = jwt_svid_template(id, &request, ttl, &self.inner.settings.ttls)?;
        let jwt = self.sign_template(template, id.clone(), "").await?;
        let record = jwt_record(id, &jti, audience, jwt.expires_at, now);
        Ok((jwt, record))
    }

    /// Whether a target takes tokens of ours for this audience.
    fn is_of_a_target(&self, audience: &str) -> bool {
        self.read(|s| s.audiences.contains_key(audience))
    }

    async fn sign_template(&self, template: JwtTemplate, id: SpiffeId, hint: &str) -> Result<IssuedJwt, ServiceError> {
        let signed = self.inner.ports.minter.jwt(&template).await?;
        Ok(IssuedJwt {
            token: signed.token,
            id,
            issued_at: template.issued_at,
            expires_at: signed.expires_at,
            hint: hint.into(),
        })
    }
}

pub(crate) fn task_identity(task: &Task) -> Result<SpiffeId, ServiceError> {
    Ok(proto_types::id::parse_spiffe_id(&task.spiffe_id())?)
}

fn x509_record(workload: &SpiffeId, svid: &X509Svid, now: Timestamp) -> Record {
    Record::new(now, "svid.minted").workload(workload).credential("x509", &svid.serial)
}

fn jwt_record(workload: &SpiffeId, jti: &str, audience: &[String], not_after: Timestamp, now: Timestamp) -> Record {
    Record::new(now, "jwt_svid.minted")
        .workload(workload)
        .credential("jwt", jti)
        .detail(json!({ "audience": audience, "not_after": not_after }))
}
