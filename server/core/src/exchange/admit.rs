//! From what was asked and what was proven to what this task may have: nothing here widens.
//!
//! Takes identities that a verifier proved; policy is asked afterwards, about each admitted grant.

use super::{
    error::{OAuthError, invalid_client, invalid_request, invalid_scope, invalid_target},
    request::{ExchangeRequest, Goal},
};
use proto_types::{Grant, RoleName, SpiffeId, Task, TaskId, Timestamp};

/// The identities that the request's tokens and its connection proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Who called: the SPIFFE ID of the certificate or the assertion, a task's own or its workload's.
    pub client: SpiffeId,
    /// The task that the caller's own SVID, or the key its task token is bound to, stands for.
    pub client_task: Option<TaskId>,
    /// The task of the subject token.
    pub subject_task: Option<TaskId>,
    /// `exp` of the subject token.
    pub subject_expires: Timestamp,
}

impl Proven {
    /// The one task that both the caller and the subject token stand for. A task's id alone is never authority.
    pub fn task(&self) -> Result<TaskId, OAuthError> {
        match (self.client_task, self.subject_task) {
            (Some(caller), Some(subject)) if caller == subject => Ok(caller),
            (_, None) => Err(invalid_request(
                "the subject_token belongs to no task; start one (errand run, errand task start) and send its JWT-SVID",
            )),
            (None, Some(_)) => Err(invalid_client("authenticate with the task's own SVID, not with the workload's")),
            (Some(_), Some(_)) => {
                Err(invalid_request("the subject_token belongs to another task than the caller's certificate"))
            }
        }
    }
}

/// What the task has of what was asked. Made by [`ExchangeRequest::admit`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted<'t> {
    pub task: &'t Task,
    /// The grants to decide and lease, in the order asked; empty for a task token.
    pub grants: Vec<&'t Grant>,
    /// Scope of a task token: every granted role, or the fewer asked for.
    pub scope: Vec<RoleName>,
    /// The scope is less than what the task has: the answer says so.
    pub narrowed: bool,
}

impl ExchangeRequest {
    /// Checks the request against the task it proved itself of, at `now`.
    pub fn admit<'t>(&self, proven: &Proven, task: &'t Task, now: Timestamp) -> Result<Admitted<'t>, OAuthError> {
        if proven.task()? != task.id {
            return Err(invalid_request("the subject_token belongs to another task"));
        }
        let client = proven.client.to_string();
        if client != task.spiffe_id() && proven.client != task.workload {
            return Err(invalid_client("the caller is not this task's workload"));
        }
        if self.client_id.as_ref().is_some_and(|id| *id != client && *id != task.workload.to_string()) {
            return Err(invalid_client(
                "client_id names another client than the one that is authenticated; leave it out",
            ));
        }
        if !task.is_live() || task.ends_at <= now {
            return Err(invalid_request("the task of the subject_token is over; start a new one"));
        }
        if proven.subject_expires <= now {
            return Err(invalid_request("the subject_token has expired; fetch a new one"));
        }
        self.within(task)
    }

    fn within<'t>(&self, task: &'t Task) -> Result<Admitted<'t>, OAuthError> {
        let asked = match &self.goal {
            Goal::TaskToken => &[][..],
            Goal::Roles(roles) => roles,
        };
        let granted = |role: &RoleName| {
            let why = || invalid_target(format!("this task has no grant for {role}; start one with --grant {role}"));
            task.grant(role).ok_or_else(why)
        };
        let grants = asked.iter().map(granted).collect::<Result<Vec<_>, _>>()?;
        if let Some(role) = self.scope.iter().flatten().find(|r| task.grant(r).is_none()) {
            return Err(invalid_scope(format!("this task has no grant for {role}; a scope only narrows")));
        }
        let scope = match &self.scope {
            Some(roles) => roles.clone(),
            None => task.grants.iter().map(|g| g.role.clone()).collect(),
        };
        let narrowed = scope.len() < task.grants.len();
        Ok(Admitted { task, grants, scope, narrowed })
    }
}
