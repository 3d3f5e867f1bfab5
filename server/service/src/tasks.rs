//! Tasks: starting one under policy, ending one with everything it was given.
//!
//! The end never races the issue: whatever is issued in a task commits under a guard on the task's epoch, and the end
//! raises it. The ending commit moves every handed lease to `revoking`, so that no crash afterwards forgets one.

use crate::{AgentCaller, IssuedJwt, Service, ServiceError, State, issue};
use proto_types::{
    DecisionNote, EndReason, EntryId, Record, RoleName, Selector, SpiffeId, Task, TaskId, Timestamp, hold::Stopped,
};
use server_core::{
    lease,
    ports::{Action, Commit, Decision, Guard, Outcome, ProvenKey, Query, Write, X509Svid},
    task::{self, Checked, Ruling, StartError, StartRequest},
};
use std::{sync::Arc, time::Duration};

/// What an agent asks for in the name of a process it pinned.
#[derive(Debug)]
pub struct NewTask {
    pub entry: EntryId,
    pub intent: String,
    pub grants: Vec<RoleName>,
    pub ttl: Option<Duration>,
    pub parent: Option<TaskId>,
    pub handle: bool,
    pub selectors: Vec<Selector>,
    pub uid: u32,
    pub launcher_isolated: bool,
    pub key: ProvenKey,
}

#[derive(Debug)]
pub struct StartedTask {
    pub task: Task,
    pub id: SpiffeId,
    pub svid: X509Svid,
    /// A JWT-SVID of the task for the token endpoint.
    pub subject_token: IssuedJwt,
}

impl Service {
    /// Starts a task: policy decides about every grant, and the task, its first SVID and the decision are one commit.
    pub async fn task_start(&self, caller: &AgentCaller, new: NewTask) -> Result<StartedTask, ServiceError> {
        let now = self.now();
        let entry = || self.read(|s| s.entries.entitled(caller.node(), &new.entry).cloned());
        let entry = || entry().ok_or_else(|| ServiceError::not_found("entry of this agent", &new.entry));
        let entry = self.surely(entry).await?;
        let parent = match new.parent {
            Some(id) => Some(self.surely(|| self.task_of_node(caller, id)).await?),
            None => None,
        };
        let request = StartRequest {
            id: TaskId::new(self.inner.ports.entropy.uuid_v7(now)),
            workload: entry.spiffe_id.clone(),
            entry: entry.id.clone(),
            node: caller.id().clone(),
            user: None,
            intent: new.intent,
            ttl: new.ttl,
            grants: new.grants,
            handle: new.handle,
            uid: new.uid,
            selectors: new.selectors,
        };
        let checked = task::check(request, parent.as_deref(), now).map_err(invalid)?;
        let rulings = self.rule(&checked, new.launcher_isolated, now)?;
        let free = match self.not_held(&wanted(&checked)) {
            Ok(free) => free,
            Err(held) => return Err(self.record_held(&checked, held).await?),
        };
        let (workload, intent) = (checked.request().workload.clone(), checked.request().intent.clone());
        let started = match task::start(checked, &rulings) {
            Ok(started) => started,
            Err(StartError::Denied { role, policies, why }) => {
                let mut record = Record::new(now, "task.refused")
                    .workload(workload)
                    .node(caller.id())
                    .intent(intent)
                    .decision("deny", policies.clone())
                    .outcome("denied");
                if let Some(role) = &role {
                    record = record.role(role);
                }
                self.commit(Commit::of(record)).await?;
                return Err(ServiceError::Denied { why: denied(role.as_ref(), &why), policies });
            }
            Err(e) => return Err(invalid(e)),
        };
        let standing = [caller.guard(), Guard::EntryAt(entry.id.clone(), entry.revision), free];
        self.release_started(started, parent, &rulings, &new.key, standing).await
    }

    async fn release_started(
        &self,
        started: Task,
        parent: Option<Arc<Task>>,
        rulings: &[Ruling],
        key: &ProvenKey,
        standing: [Guard; 3],
    ) -> Result<StartedTask, ServiceError> {
        let now = started.started_at;
        let (svid, svid_unit) = self.task_x509(&started, key).await?;
        let issuer = self.inner.settings.issuer.clone();
        let (subject_token, jwt_record) = self.task_jwt(&started, &[issuer]).await?;
        let mut policies: Vec<String> = rulings.iter().flat_map(|r| r.decision.policies.clone()).collect();
        policies.sort();
        policies.dedup();
        let note = DecisionNote { outcome: "permit".into(), policies };
        // The task's record first: a serial counts only for a task that is known.
        let mut unit = Commit::of(task::record("started", &started, now, Some(note))).put(Write::Task(started.clone()));
        let (_, writes, records) = svid_unit.into_parts();
        unit = writes.into_iter().fold(unit, Commit::put);
        unit = records.into_iter().chain([jwt_record]).fold(unit, Commit::also);
        // A ban, a hold, or the end of the entry that is acknowledged meanwhile wins.
        unit = standing.into_iter().fold(unit, Commit::when);
        if let Some(parent) = parent {
            for guard in self.path(&parent)? {
                unit = unit.when(guard);
            }
        }
        let _released = self.commit_and_follow(unit).await?;
        let id = issue::task_identity(&started)?;
        Ok(StartedTask { task: started, id, svid, subject_token })
    }

    /// The refusal of a held start leaves its record; answers the refusal.
    async fn record_held(&self, checked: &Checked, held: ServiceError) -> Result<ServiceError, ServiceError> {
        let request = checked.request();
        let record = Record::new(self.now(), "task.refused")
            .workload(&request.workload)
            .user(request.user.clone())
            .node(&request.node)
            .intent(&request.intent)
            .outcome("held");
        self.commit(Commit::of(record)).await?;
        Ok(held)
    }

    /// Asks policy about everything the task wants; a role that no target declares is refused before.
    fn rule(&self, checked: &Checked, isolated: bool, now: Timestamp) -> Result<Vec<Ruling>, ServiceError> {
        let request = checked.request();
        checked
            .asks()
            .into_iter()
            .map(|role| {
                let limits = role.as_ref().map(|r| self.role_limits(r)).transpose()?;
                let query = Query {
                    action: Action::StartTask,
                    workload: request.workload.clone(),
                    role: role.clone(),
                    intent: request.intent.clone(),
                    ttl: checked.ttl(),
                    node: request.node.clone(),
                    uid: request.uid,
                    selectors: request.selectors.clone(),
                    launcher_isolated: isolated,
                    parent: checked.parent().map(|p| p.workload.clone()),
                    depth: checked.depth(),
                    now,
                    trust_domain: self.inner.settings.trust_domain.to_string(),
                    workload_environment: None,
                    target_environment: role.as_ref().and_then(|r| self.environment(r)),
                };
                let role_max_ttl = limits.map_or(task::MAX_TTL, |l| l.max_ttl);
                Ok(Ruling { role, role_max_ttl, decision: self.decide(&query) })
            })
            .collect()
    }

    pub(crate) fn role_limits(&self, role: &RoleName) -> Result<server_core::ports::RoleLimits, ServiceError> {
        let target = self.target(role.target()).ok_or_else(|| ServiceError::not_found("target", role.target()))?;
        target.role(role.role()).ok_or_else(|| ServiceError::not_found("role", role))
    }

    /// The `environment` of the role's own table, or of its target.
    pub(crate) fn environment(&self, role: &RoleName) -> Option<String> {
        self.read(|s| {
            let body = &s.targets.get(role.target())?.doc.body;
            let roles = body.get("role").and_then(|r| r.as_array());
            let own =
                roles.and_then(|r| r.iter().find(|r| r.get("name").and_then(|n| n.as_str()) == Some(role.role())));
            own.and_then(|r| r.get("environment")).or_else(|| body.get("environment"))?.as_str().map(String::from)
        })
    }

    /// Ends a task and everything below it. Ending twice is harmless; the first reason stands.
    pub async fn task_end(
        &self,
        id: TaskId,
        reason: EndReason,
        operator: Option<String>,
    ) -> Result<usize, ServiceError> {
        // A lease that moved between the look and the commit costs one more look, never a lease.
        for attempt in 0..16 {
            let now = self.now();
            let tree = self.read(|s| s.tree_of(id));
            let ended = task::end_tree(&tree, id, reason, now).map_err(|e| ServiceError::Conflict(e.to_string()))?;
            let Some((first, rest)) = ended.split_first() else { return Err(ServiceError::TaskOver) };
            let mut unit = Commit::of(task::record("ended", first, now, None).operator(operator.clone()));
            for task in rest {
                unit = unit.also(task::record("ended", task, now, None));
            }
            let mut open = 0;
            for task in &ended {
                let before = tree.iter().find(|t| t.id == task.id).map_or(task.epoch, |t| t.epoch);
                unit = unit.when(Guard::TaskLive(task.id, before)).put(Write::Task(task.clone()));
                for held in self.read(|s| s.leases_of(task.id)) {
                    open += 1;
                    // `intended` is left to whoever is creating it: its `handed` loses against the epoch, and it is
                    // revoked by that path or by recovery.
                    // When they keep moving, the end goes alone: what outlives its task is due at once.
                    if held.state == proto_types::LeaseState::Handed
                        && attempt < 8
                        && let Ok(moved) = lease::revoke(&held, reason.as_str(), now)
                    {
                        unit = moved.onto(unit);
                    }
                }
            }
            match self.commit_and_follow(unit).await {
                Ok(_) => {
                    self.inner.leases.wake();
                    return Ok(open);
                }
                Err(ServiceError::Conflict(_)) => {}
                // Somebody ended it first, or a child of it: look again, the rest may still be alive.
                Err(ServiceError::TaskOver) if self.read(|s| s.tasks.contains_key(&id)) => {}
                Err(e) => return Err(e),
            }
        }
        Err(ServiceError::Unavailable("the task kept changing while it was being ended; try again".into()))
    }

    /// Ends a task where nobody waits for the answer: what cannot be done now is done by the next round.
    pub(crate) async fn end_quietly(&self, id: TaskId, reason: EndReason) {
        match self.task_end(id, reason, None).await {
            Ok(_) | Err(ServiceError::TaskOver) => {}
            Err(error) => tracing::warn!(task = %id, %error, "a task could not be ended yet; it will be tried again"),
        }
    }

    /// An agent ends a task that it vouches for. A task that is over already is no error: the agent only wants to know.
    pub async fn task_end_by_agent(
        &self,
        caller: &AgentCaller,
        id: TaskId,
        reason: EndReason,
    ) -> Result<usize, ServiceError> {
        let known = self.surely(|| self.read(|s| s.tasks.get(&id).cloned()).ok_or(ServiceError::TaskOver)).await;
        match known {
            Err(ServiceError::Unavailable(why)) => Err(ServiceError::Unavailable(why)),
            Ok(task) if &task.node == caller.id() => {
                // What an agent notices at the deadline or after it is a consequence of it.
                let reason = if task.ends_at <= self.now() { EndReason::Deadline } else { reason };
                match self.task_end(id, reason, None).await {
                    Err(ServiceError::TaskOver) => Ok(0),
                    other => other,
                }
            }
            _ => Ok(0),
        }
    }

    /// Ends every task whose deadline has passed.
    pub(crate) async fn end_overdue(&self) {
        for id in self.read(|s| s.past_deadline(self.now())) {
            self.end_quietly(id, EndReason::Deadline).await;
        }
    }

    /// Ends every task that has lost what it stands on: its node, its entry or its parent, or was put on hold. What could not
    /// be ended when that happened is ended here. All tasks are looked at, so only when there is reason to: something
    /// went since the last look found none, and every minute all the same.
    pub(crate) async fn end_adrift(&self, looked: &mut Looked) {
        let now = Looked { shaken: self.read(|s| s.shaken), minute: self.now().as_secs() / 60 };
        if *looked == now {
            return;
        }
        let adrift: Vec<_> = self.read(|s| s.tasks.values().filter_map(|t| Some((t.id, adrift(s, t)?))).collect());
        if adrift.is_empty() {
            *looked = now;
        }
        for (id, reason) in adrift {
            self.end_quietly(id, reason).await;
        }
    }
}

/// When all tasks were last looked at and none was adrift.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Looked {
    shaken: u64,
    minute: i64,
}

/// What a start wants, as holds see it.
fn wanted(checked: &Checked) -> Stopped<'_> {
    let request = checked.request();
    Stopped {
        workload: Some(&request.workload),
        user: request.user.as_deref(),
        node: Some(&request.node),
        targets: request.grants.iter().map(RoleName::target).collect(),
    }
}

fn invalid(e: StartError) -> ServiceError {
    match e {
        StartError::ParentOver(_) => ServiceError::TaskOver,
        StartError::NotInParent { .. } => ServiceError::Denied { why: e.to_string(), policies: vec![] },
        other => ServiceError::Invalid(other.to_string()),
    }
}

fn denied(role: Option<&RoleName>, why: &str) -> String {
    role.map_or_else(|| format!("starting this task is denied: {why}"), |r| format!("`{r}` is denied: {why}"))
}

/// What policy answered, for a record.
pub(crate) fn decision_note(decision: &Decision) -> DecisionNote {
    let outcome = if decision.outcome == Outcome::Permit { "permit" } else { "deny" };
    DecisionNote { outcome: outcome.into(), policies: decision.policies.clone() }
}

/// Why a task that lives must not: what it stands on is gone, or somebody stopped it.
fn adrift(state: &State, task: &Task) -> Option<EndReason> {
    if state.nodes.get(&task.node).is_none_or(|n| n.banned) {
        return Some(EndReason::NodeBanned);
    }
    if state.entries.get(&task.entry).is_none() {
        return Some(EndReason::EntryDeleted);
    }
    if state.holds.on(&Stopped::task(task)).is_some() {
        return Some(EndReason::Held);
    }
    task.parent.filter(|p| !state.tasks.contains_key(p)).map(|_| EndReason::ParentEnded)
}
