//! Nodes: join tokens, attestation, renewal, eviction, and who an agent is on every call.
//!
//! The method's own proof is checked by its verifier (`proto-attest`); this file decides what follows from it.

use crate::{Service, ServiceError};
use proto_types::{
    EndReason, Entry, JoinToken, Node, Record, Secret, Selector, SpiffeId, Timestamp, id::parse_spiffe_id,
};
use serde_json::json;
use server_core::{
    issue::{Ttls, x509_template},
    ports::{Commit, Guard, ProvenKey, Write, X509Svid, entry_fingerprint},
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Longest life of a join token.
const MAX_TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Evidence that a caller is an attested, unbanned agent with its newest SVID. Made by [`Service::agent`] only.
#[derive(Clone, Debug)]
pub struct AgentCaller {
    node: Arc<Node>,
    serial: String,
}

impl AgentCaller {
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
    pub fn id(&self) -> &SpiffeId {
        &self.node.id
    }
    pub(crate) fn serial(&self) -> &str {
        &self.serial
    }
    /// Loses when the node is evicted, banned or superseded meanwhile.
    pub(crate) fn guard(&self) -> Guard {
        Guard::NodeSerial(self.node.id.clone(), self.serial.clone())
    }
}

/// What a verifier proved about a node.
#[derive(Debug)]
pub struct NewAgent {
    pub method: &'static str,
    /// Below `/spire/agent/<method>/`.
    pub id: SpiffeId,
    pub selectors: Vec<Selector>,
    pub can_reattest: bool,
    /// SHA-256 of the join token that was presented, lowercase hex: taken in the same commit.
    pub join_token: Option<String>,
    pub key: ProvenKey,
}

#[derive(Debug)]
pub struct Attested {
    pub node: Arc<Node>,
    pub svid: X509Svid,
}

impl Service {
    /// A new join token, shown once; only its digest is kept.
    pub async fn join_token(
        &self,
        ttl: Duration,
        wanted: Option<String>,
        alias: Option<SpiffeId>,
        operator: Option<String>,
    ) -> Result<(Secret<String>, Timestamp), ServiceError> {
        if ttl.is_zero() || ttl > MAX_TOKEN_TTL {
            return Err(ServiceError::Invalid("a join token lives between 1s and 24h".into()));
        }
        let token = match wanted {
            Some(t) if t.len() >= 16 && t.len() <= 128 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
                t
            }
            Some(_) => {
                return Err(ServiceError::Invalid(
                    "a join token has 16 to 128 characters of A-Z, a-z, 0-9 and `-`; leave it out to get one".into(),
                ));
            }
            None => {
                let mut bytes = [0; 16];
                self.inner.ports.entropy.fill(&mut bytes);
                hex::encode(bytes)
            }
        };
        let now = self.now();
        let digest = sha256_hex(token.as_bytes());
        self.never_given(&digest, now).await?;
        let row = JoinToken { digest, expires_at: now.plus(ttl), alias: alias.as_ref().map(ToString::to_string) };
        let record = Record::new(now, "join_token.created")
            .operator(operator)
            .credential("join_token", &row.digest[..16])
            .detail(json!({ "expires_at": row.expires_at, "alias": row.alias }));
        let expires_at = row.expires_at;
        let mut unit = Commit::of(record).put(Write::JoinToken(row.clone()));
        if let Some(alias) = alias {
            let entry = self.alias_entry(&row.digest, alias)?;
            let record = Record::new(now, "entry.created").workload(&entry.spiffe_id).detail(json!({ "entry": entry }));
            let unique = Guard::EntryUnique(entry.id.clone(), entry_fingerprint(&entry));
            unit = unit.also(record).when(unique).put(Write::Entry(entry));
        }
        self.commit_and_follow(unit).await?;
        Ok((Secret::new(token), expires_at))
    }

    /// A token that somebody chose is good for one agent: neither while it waits nor after it was used is it made again.
    async fn never_given(&self, digest: &str, now: Timestamp) -> Result<(), ServiceError> {
        let waits = self.inner.ports.archive.join_token(digest).await?.is_some_and(|t| t.expires_at > now);
        let agent = self.token_agent(digest)?;
        if waits || self.read(|s| s.nodes.contains_key(&agent)) {
            return Err(ServiceError::Exists { what: "join token", id: digest[..16].into() });
        }
        Ok(())
    }

    fn token_agent(&self, digest: &str) -> Result<SpiffeId, ServiceError> {
        self.agent_id(&format!("join_token/{}", &digest[..32]))
    }

    /// What SPIRE does with `-spiffeID`: an entry that gives the agent a second name, a parent for other entries.
    fn alias_entry(&self, digest: &str, alias: SpiffeId) -> Result<Entry, ServiceError> {
        let td = &self.inner.settings.trust_domain;
        let agent = self.token_agent(digest)?;
        let now = self.now();
        let entry = Entry {
            id: proto_types::EntryId::new(self.inner.ports.entropy.uuid_v7(now).to_string())?,
            spiffe_id: alias,
            parent_id: agent.clone(),
            selectors: vec![Selector::new("spiffe_id", agent.to_string()).map_err(invalid)?],
            x509_svid_ttl: 0,
            jwt_svid_ttl: 0,
            federates_with: vec![],
            dns_names: vec![],
            hint: String::new(),
            admin: false,
            downstream: false,
            store_svid: false,
            expires_at: 0,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
            revision: 1,
            created_at: now,
        };
        let mut entry = entry.checked(td).map_err(invalid)?;
        entry.revision = 1;
        Ok(entry)
    }

    pub fn agent_id(&self, path: &str) -> Result<SpiffeId, ServiceError> {
        Ok(parse_spiffe_id(&format!("spiffe://{}/spire/agent/{path}", self.inner.settings.trust_domain))?)
    }

    /// Signs the agent's first SVID and writes the node, taking the join token in the same commit.
    pub async fn attest(&self, new: NewAgent) -> Result<Attested, ServiceError> {
        let id = new.id;
        let own = id.trust_domain() == &self.inner.settings.trust_domain;
        if !own || !id.path().starts_with(&format!("/spire/agent/{}/", new.method)) {
            return Err(ServiceError::Invalid("an attestation method names agents below its own path only".into()));
        }
        if let Some(known) = self.read(|s| s.nodes.get(&id).cloned()) {
            if known.banned {
                return Err(ServiceError::AgentBanned);
            }
            if !known.can_reattest && !new.can_reattest {
                return Err(ServiceError::Denied {
                    why: "this node attested before and its method is good once; evict the node or make a new token"
                        .into(),
                    policies: vec![],
                });
            }
        }
        let now = self.now();
        let svid = self.agent_svid(&id, &new.key, now).await?;
        let node = Node {
            id: id.clone(),
            attestation_type: new.method.into(),
            selectors: new.selectors,
            serial: svid.serial.clone(),
            next_serial: None,
            expires_at: svid.not_after,
            banned: false,
            can_reattest: new.can_reattest,
            attested_at: now,
            version: String::new(),
        };
        let mut unit = Commit::of(node_record(&node, "node.attested", now).credential("x509", &svid.serial))
            .put(Write::Node(node.clone()));
        if let Some(digest) = new.join_token {
            unit = unit.when(Guard::JoinToken(digest));
        }
        let _released = self.commit_and_follow(unit).await?;
        Ok(Attested { node: Arc::new(node), svid })
    }

    /// The next SVID of an agent. The one it came with stays good until the new one is used.
    pub async fn agent_renew(&self, caller: &AgentCaller, key: ProvenKey) -> Result<X509Svid, ServiceError> {
        let now = self.now();
        let svid = self.agent_svid(caller.id(), &key, now).await?;
        let node = Node {
            serial: caller.serial.clone(),
            next_serial: Some(svid.serial.clone()),
            expires_at: svid.not_after,
            ..(*caller.node).clone()
        };
        let unit = Commit::of(node_record(&node, "node.renewed", now).credential("x509", &svid.serial))
            .when(caller.guard())
            .put(Write::Node(node));
        let _released = self.commit_and_follow(unit).await?;
        Ok(svid)
    }

    async fn agent_svid(&self, id: &SpiffeId, key: &ProvenKey, now: Timestamp) -> Result<X509Svid, ServiceError> {
        let ttls = Ttls { x509_svid_ttl: self.inner.settings.agent_ttl, ..Ttls::default() };
        let template = x509_template(id, &[], 0, &ttls, now, self.inner.ports.authorities.ca_not_after())?;
        Ok(self.inner.ports.minter.x509(&template, key).await?)
    }

    /// Who an agent is, asked on every call: known, not banned, not expired, with its newest serial.
    pub async fn agent_caller(&self, id: &SpiffeId, serial: &str) -> Result<AgentCaller, ServiceError> {
        self.surely(|| self.agent(id, serial)).await
    }

    pub(crate) fn agent(&self, id: &SpiffeId, serial: &str) -> Result<AgentCaller, ServiceError> {
        let node = self.read(|s| s.nodes.get(id).cloned()).ok_or(ServiceError::AgentUnknown)?;
        if node.banned {
            return Err(ServiceError::AgentBanned);
        }
        if node.serial != serial && node.next_serial.as_deref() != Some(serial) {
            return Err(ServiceError::AgentNotActive);
        }
        if node.expires_at <= self.now() {
            return Err(ServiceError::AgentUnknown);
        }
        if node.next_serial.as_deref() == Some(serial) {
            self.adopt(&node, serial);
        }
        Ok(AgentCaller { node, serial: serial.into() })
    }

    /// The renewed SVID is in use: the one before it is good for nothing any more, whoever holds it.
    fn adopt(&self, node: &Node, serial: &str) {
        if !self.inner.adopting.lock().unwrap_or_else(PoisonError::into_inner).insert(node.id.clone()) {
            return;
        }
        let before = as_read(node);
        let node = Node { serial: serial.into(), next_serial: None, ..node.clone() };
        let service = self.clone();
        tokio::spawn(async move {
            let unit = Commit::of(node_record(&node, "node.renewed", service.now()).outcome("adopted"))
                .when(before)
                .put(Write::Node(node.clone()));
            if let Err(error) = service.commit_and_follow(unit).await {
                tracing::warn!(agent = %node.id, %error, "a renewed SVID could not be adopted yet; its next use tries again");
            }
            service.inner.adopting.lock().unwrap_or_else(PoisonError::into_inner).remove(&node.id);
        });
    }

    /// Forgets the node: its agent must attest again, and what it vouched for ends.
    pub async fn node_evict(&self, id: &SpiffeId, operator: Option<String>) -> Result<(), ServiceError> {
        self.known_node(id)?;
        let record = Record::new(self.now(), "node.evicted").node(id).operator(operator.clone());
        let mut unit = Commit::of(record).put(Write::DropNode(id.clone()));
        // The second name it was given with its join token: the token is used up, so nobody gets that name again.
        for alias in self.read(|s| s.entries.iter().filter(|e| names_node(e, id)).cloned().collect::<Vec<_>>()) {
            let record = Record::new(self.now(), "entry.deleted")
                .workload(&alias.spiffe_id)
                .operator(operator.clone())
                .detail(json!({ "deleted": alias.id }));
            unit = unit.also(record).put(Write::DropEntry(alias.id.clone()));
        }
        self.commit_and_follow(unit).await?;
        self.end_tasks_of_node(id).await;
        Ok(())
    }

    /// Bans the node: its agent is refused, and what it vouched for ends.
    pub async fn node_ban(&self, id: &SpiffeId, operator: Option<String>) -> Result<(), ServiceError> {
        let node = Node { banned: true, ..(*self.known_node(id)?).clone() };
        let record = node_record(&node, "node.banned", self.now()).operator(operator);
        self.commit_and_follow(Commit::of(record).put(Write::Node(node))).await?;
        self.end_tasks_of_node(id).await;
        Ok(())
    }

    fn known_node(&self, id: &SpiffeId) -> Result<Arc<Node>, ServiceError> {
        self.read(|s| s.nodes.get(id).cloned()).ok_or_else(|| ServiceError::not_found("node", id))
    }

    async fn end_tasks_of_node(&self, id: &SpiffeId) {
        let tasks: Vec<_> = self.read(|s| s.tasks.values().filter(|t| &t.node == id).map(|t| t.id).collect());
        for task in tasks {
            self.end_quietly(task, EndReason::NodeBanned).await;
        }
    }
}

/// Whether the entry is nothing but another name of this node.
fn names_node(entry: &Entry, node: &SpiffeId) -> bool {
    let itself = |s: &Selector| s.kind() == "spiffe_id" && s.value() == node.to_string();
    &entry.parent_id == node && entry.selectors.iter().all(itself)
}

/// Nothing about the node's serials has changed since it was read.
pub(crate) fn as_read(node: &Node) -> Guard {
    Guard::NodeAs(node.id.clone(), node.serial.clone(), node.next_serial.clone())
}

pub(crate) fn node_record(node: &Node, kind: &'static str, now: Timestamp) -> Record {
    Record::new(now, kind).node(&node.id).detail(json!({ "node": node }))
}

fn invalid(e: proto_types::entry::EntryError) -> ServiceError {
    ServiceError::Invalid(e.to_string())
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}
