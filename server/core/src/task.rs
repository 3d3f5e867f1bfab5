//! The life of a task: what may be started, what a child may have of its parent, what ends with what.
//!
//! Pure: nouns in, nouns and guards out. Which roles policy permits is decided elsewhere and handed in as
//! [`Ruling`]s; what is committed, and when a watcher notices the end, is the service's.

use crate::ports::{Decision, Guard, Outcome};
use proto_types::{EndReason, EntryId, Epoch, Grant, RoleName, Selector, SpiffeId, Task, TaskId, TaskState, Timestamp};
use std::{borrow::Borrow, collections::BTreeSet, time::Duration};

mod record;
pub use record::{from_record, record};

/// Longest intent, bytes after trimming.
pub const MAX_INTENT: usize = 1024;
/// Most grants one task may have.
pub const MAX_GRANTS: usize = 16;
/// A root has depth 0; a child of a task at this depth is refused.
pub const MAX_DEPTH: u8 = 8;
pub const MIN_TTL: Duration = Duration::from_secs(1);
pub const DEFAULT_TTL: Duration = Duration::from_secs(15 * 60);
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a task was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("a task needs an intent: say in one sentence what it is for, such as `--intent \"rotate the demo keys\"`")]
    NoIntent,
    #[error("an intent has at most {MAX_INTENT} bytes, this one has {0}; keep the purpose and drop the rest")]
    IntentTooLong(usize),
    #[error("an intent is one line of text: remove the control character at byte {0}")]
    IntentControl(usize),
    #[error("a task has at most {MAX_GRANTS} grants, this one asks for {0}; start a child task for the others")]
    TooManyGrants(usize),
    #[error("`{0}` is asked for twice; name each role once")]
    DuplicateGrant(RoleName),
    #[error("a task lives between 1s and 24h; choose a TTL in that range")]
    Ttl,
    #[error("tasks nest at most {MAX_DEPTH} deep; let an outer task start this one")]
    TooDeep,
    #[error("the parent task {0} is over; start a task of its own")]
    ParentOver(TaskId),
    #[error("the parent task {0} is held on another node; start the child there")]
    ParentElsewhere(TaskId),
    #[error("a child acts for the same user as its parent task {0}; leave the user out")]
    OtherUser(TaskId),
    #[error("the parent task {parent} has no grant for `{role}`; a child gets only what its parent has")]
    NotInParent { parent: TaskId, role: RoleName },
    /// Policy said no.
    #[error("{}: {why}", role.as_ref().map_or("denied by policy".to_string(), |r| format!("`{r}` is denied by policy")))]
    Denied { role: Option<RoleName>, policies: Vec<String>, why: String },
    /// A role was asked for and no answer of policy about exactly it was given: nothing is granted by omission.
    #[error("policy was not asked about everything this task wants; nothing was granted")]
    Undecided,
}

/// What is asked for. Everything but `intent`, `ttl` and `grants` was attested or proven, not said.
#[derive(Clone, Debug)]
pub struct StartRequest {
    pub id: TaskId,
    pub workload: SpiffeId,
    pub entry: EntryId,
    pub node: SpiffeId,
    pub user: Option<String>,
    pub intent: String,
    /// `None` takes [`DEFAULT_TTL`].
    pub ttl: Option<Duration>,
    pub grants: Vec<RoleName>,
    pub handle: bool,
    pub uid: u32,
    pub selectors: Vec<Selector>,
}

/// A request within its bounds and within its parent. Made by [`check`] only.
#[derive(Clone, Debug)]
pub struct Checked {
    request: StartRequest,
    parent: Option<Task>,
    ends_at: Timestamp,
    now: Timestamp,
}

/// Policy's answer about one role, with what the target itself allows. `role: None` is the task as such.
#[derive(Clone, Debug)]
pub struct Ruling {
    pub role: Option<RoleName>,
    /// The role's own limit; ignored without a role.
    pub role_max_ttl: Duration,
    pub decision: Decision,
}

/// Trims an intent and bounds it. It is evidence for people and policy, never authority.
pub fn intent(text: &str) -> Result<String, StartError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(StartError::NoIntent);
    }
    if text.len() > MAX_INTENT {
        return Err(StartError::IntentTooLong(text.len()));
    }
    match text.char_indices().find(|(_, c)| is_unprintable(*c)) {
        Some((at, _)) => Err(StartError::IntentControl(at)),
        None => Ok(text.to_string()),
    }
}

/// Controls, and the marks that make an approver read something else than what stands there.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Bounds the request and narrows it to its parent. Policy is asked afterwards, about [`Checked::asks`].
pub fn check(mut request: StartRequest, parent: Option<&Task>, now: Timestamp) -> Result<Checked, StartError> {
    request.intent = intent(&request.intent)?;
    if request.grants.len() > MAX_GRANTS {
        return Err(StartError::TooManyGrants(request.grants.len()));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = request.grants.iter().find(|r| !seen.insert(*r)) {
        return Err(StartError::DuplicateGrant(twice.clone()));
    }
    let ttl = request.ttl.unwrap_or(DEFAULT_TTL);
    if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
        return Err(StartError::Ttl);
    }
    let mut ends_at = now.plus(ttl);
    if let Some(parent) = parent {
        narrow_to_parent(&mut request, parent, now)?;
        ends_at = ends_at.min(parent.ends_at);
    }
    Ok(Checked { request, parent: parent.cloned(), ends_at, now })
}

fn narrow_to_parent(request: &mut StartRequest, parent: &Task, now: Timestamp) -> Result<(), StartError> {
    if !parent.is_live() || parent.ends_at <= now {
        return Err(StartError::ParentOver(parent.id));
    }
    if parent.depth >= MAX_DEPTH {
        return Err(StartError::TooDeep);
    }
    if parent.node != request.node {
        return Err(StartError::ParentElsewhere(parent.id));
    }
    if request.user.is_some() && request.user != parent.user {
        return Err(StartError::OtherUser(parent.id));
    }
    request.user.clone_from(&parent.user);
    match request.grants.iter().find(|r| parent.grant(r).is_none()) {
        Some(role) => Err(StartError::NotInParent { parent: parent.id, role: role.clone() }),
        None => Ok(()),
    }
}

impl Checked {
    pub fn request(&self) -> &StartRequest {
        &self.request
    }
    pub fn parent(&self) -> Option<&Task> {
        self.parent.as_ref()
    }
    pub fn depth(&self) -> u8 {
        self.parent.as_ref().map_or(0, |p| p.depth + 1)
    }
    /// How long the task may live after narrowing: what policy is told.
    pub fn ttl(&self) -> Duration {
        self.ends_at.since(self.now)
    }
    /// What policy must be asked, in this order: each role, or `None` (the task as such) when there is no role.
    pub fn asks(&self) -> Vec<Option<RoleName>> {
        if self.request.grants.is_empty() {
            vec![None]
        } else {
            self.request.grants.iter().cloned().map(Some).collect()
        }
    }

    fn grant(&self, ruling: &Ruling) -> Result<Option<Grant>, StartError> {
        let Decision { outcome, policies, max_ttl, why, .. } = &ruling.decision;
        if *outcome != Outcome::Permit {
            let (role, policies, why) = (ruling.role.clone(), policies.clone(), why.clone());
            return Err(StartError::Denied { role, policies, why });
        }
        let Some(role) = &ruling.role else { return Ok(None) };
        let inherited = self.parent.as_ref().and_then(|p| p.grant(role)).map(|g| g.max_ttl);
        let max_ttl = [Some(ruling.role_max_ttl), *max_ttl, inherited].into_iter().flatten().min().unwrap_or_default();
        Ok(Some(Grant { role: role.clone(), max_ttl, policies: policies.clone() }))
    }
}

/// Starts the task: every ask must have its own permit, in order. Commit it under [`path_guards`] of its parent.
pub fn start(checked: Checked, rulings: &[Ruling]) -> Result<Task, StartError> {
    if !checked.asks().iter().eq(rulings.iter().map(|r| &r.role)) {
        return Err(StartError::Undecided);
    }
    let grants = rulings.iter().filter_map(|r| checked.grant(r).transpose()).collect::<Result<_, _>>()?;
    let depth = checked.depth();
    let Checked { request, parent, ends_at, now } = checked;
    Ok(Task {
        id: request.id,
        parent: parent.as_ref().map(|p| p.id),
        root: parent.as_ref().map_or(request.id, |p| p.root),
        depth,
        workload: request.workload,
        entry: request.entry,
        node: request.node,
        user: request.user,
        intent: request.intent,
        state: TaskState::Active,
        epoch: Epoch(1),
        grants,
        handle: request.handle,
        uid: request.uid,
        selectors: request.selectors,
        started_at: now,
        ends_at,
        ended_at: None,
        end_reason: None,
    })
}

/// Why a task was not ended: it already is. Ending twice is harmless; the first reason stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("task {task} is over already ({})", reason.map_or("denied", EndReason::as_str))]
pub struct AlreadyOver {
    pub task: TaskId,
    /// `None`: it was denied and never began.
    pub reason: Option<EndReason>,
}

/// Nothing more happens to this task.
pub const fn is_over(state: TaskState) -> bool {
    matches!(state, TaskState::Ended | TaskState::Denied)
}

/// Ends a task: its epoch grows, so every guard that saw the old one loses.
pub fn end(task: &Task, reason: EndReason, now: Timestamp) -> Result<Task, AlreadyOver> {
    if is_over(task.state) {
        return Err(AlreadyOver { task: task.id, reason: task.end_reason });
    }
    Ok(Task {
        state: TaskState::Ended,
        epoch: Epoch(task.epoch.0 + 1),
        ended_at: Some(now),
        end_reason: Some(reason),
        ..task.clone()
    })
}

/// Ends a task and everything below it, the task first: descendants end because their parent did.
pub fn end_tree<T: Borrow<Task>>(
    tasks: &[T],
    id: TaskId,
    reason: EndReason,
    now: Timestamp,
) -> Result<Vec<Task>, AlreadyOver> {
    let find = |id: TaskId| tasks.iter().map(Borrow::borrow).find(|t| t.id == id);
    let Some(first) = find(id) else { return Ok(Vec::new()) };
    let mut ended = vec![end(first, reason, now)?];
    // A descendant that is over already stays as it is.
    ended.extend(
        descendants(tasks, id).into_iter().filter_map(find).filter_map(|t| end(t, EndReason::ParentEnded, now).ok()),
    );
    Ok(ended)
}

/// Every task below `id`, nearest first. Never `id` itself, each once.
pub fn descendants<T: Borrow<Task>>(tasks: &[T], id: TaskId) -> Vec<TaskId> {
    let mut seen = BTreeSet::from([id]);
    let mut found = Vec::new();
    let mut edge = BTreeSet::from([id]);
    while !edge.is_empty() {
        let below = tasks.iter().map(Borrow::borrow).filter(|t| t.parent.is_some_and(|p| edge.contains(&p)));
        edge = below.map(|t| t.id).filter(|id| seen.insert(*id)).collect();
        found.extend(&edge);
    }
    found
}

/// Why nothing may be issued in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("task {0} is not active any more; start a new one")]
    NotLive(TaskId),
    #[error("task {0} is not known here; start a new one")]
    Unknown(TaskId),
    #[error("the parents of task {0} do not lead to a root; start a new one")]
    Broken(TaskId),
}

/// A guard for the task and every ancestor up to the root. A commit that inserts a lease, token or child carries
/// all of them, so that the end of any never races the issue. `lookup` is asked for ancestors only.
pub fn path_guards<T: Borrow<Task>>(
    task: &Task,
    lookup: impl Fn(TaskId) -> Option<T>,
) -> Result<Vec<Guard>, PathError> {
    let mut guards = vec![guard_of(task)?];
    let mut next = task.parent;
    let mut last = task.id;
    while let Some(id) = next {
        // Depth bounds the walk, so that a cycle in stored rows cannot hold it.
        if guards.len() > usize::from(MAX_DEPTH) {
            return Err(PathError::Broken(task.id));
        }
        let found = lookup(id).ok_or(PathError::Unknown(id))?;
        let ancestor: &Task = found.borrow();
        guards.push(guard_of(ancestor)?);
        (next, last) = (ancestor.parent, ancestor.id);
    }
    if last == task.root { Ok(guards) } else { Err(PathError::Broken(task.id)) }
}

fn guard_of(task: &Task) -> Result<Guard, PathError> {
    if task.is_live() { Ok(Guard::TaskLive(task.id, task.epoch)) } else { Err(PathError::NotLive(task.id)) }
}
