//! The end of a task against the issue of its credential: every order in which their steps can fall.
//!
//! An exchange has six steps and an end three, so there are 84 orders. Decorators hold each step back until its turn.

use crate::{
    local::Local,
    process::{Dice, seeds},
    steps::{all_leases, verdict},
};
use futures_util::future::join_all;
use proto_types::{Fut, Lease, TaskId};
use server_core::ports::{
    Commit, CommitError, Durable, IssueError, IssueRequest, Issued, Ledger, Missing, RevokeError, Revoked, RoleLimits,
    Target,
};
use server_daemon::Decorators;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};
use testkit::postgres::PostgresFixture;
use tests_crash::{
    client::{Agent, CallError, Connection, Task},
    point::says,
    seen::Seen,
    world::{ROLES, World},
};
use tokio::sync::watch;

/// Tasks that race side by side.
const ABREAST: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Intend,
    Intended,
    Issue,
    Issued,
    Hand,
    Handed,
    AskEnd,
    End,
    Ended,
}
use Step::{AskEnd, End, Ended, Hand, Handed, Intend, Intended, Issue, Issued as Made};

const EXCHANGE: [Step; 6] = [Intend, Intended, Issue, Made, Hand, Handed];
const ENDING: [Step; 3] = [AskEnd, End, Ended];

/// Every order of both that keeps each one's own.
fn orders() -> Vec<Vec<Step>> {
    fn merge(a: &[Step], b: &[Step], so_far: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        if a.is_empty() && b.is_empty() {
            out.push(so_far.clone());
        }
        for (from, rest) in [(a, b), (b, a)] {
            if let Some((first, left)) = from.split_first() {
                so_far.push(*first);
                // Which is which does not matter to a merge.
                merge(left, rest, so_far, out);
                so_far.pop();
            }
        }
    }
    let mut out = Vec::new();
    merge(&EXCHANGE, &ENDING, &mut Vec::new(), &mut out);
    out
}

/// One task's order, and how far it has come.
struct Course {
    order: Vec<Step>,
    passed: watch::Sender<HashSet<Step>>,
}

impl Course {
    /// Waits for every step before this one. A step that comes again (a retry) passes at once.
    async fn pass(&self, step: Step) {
        let before: Vec<Step> = self.order.iter().copied().take_while(|s| *s != step).collect();
        let mut passed = self.passed.subscribe();
        let _ = passed.wait_for(|p| p.contains(&step) || before.iter().all(|s| p.contains(s))).await;
        self.over(&[step]);
    }
    /// Whoever comes to an end early holds nobody up.
    fn over(&self, steps: &[Step]) {
        self.passed.send_modify(|p| p.extend(steps));
    }
    fn is_before(&self, a: Step, b: Step) -> bool {
        let at = |step| self.order.iter().position(|s| *s == step);
        at(a) < at(b)
    }
}

/// The courses of all tasks under way.
#[derive(Clone, Default)]
struct Courses(Arc<Mutex<HashMap<TaskId, Arc<Course>>>>);

impl Courses {
    fn set(&self, task: TaskId, course: Arc<Course>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task, course);
    }
    async fn pass(&self, task: TaskId, step: Step) {
        let course = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&task).cloned();
        if let Some(course) = course {
            course.pass(step).await;
        }
    }
    fn decorators(&self) -> Decorators {
        let (ledger, target) = (self.clone(), self.clone());
        Decorators {
            ledger: Some(Box::new(move |inner| Arc::new(PacedLedger { inner, courses: ledger }))),
            target: Some(Arc::new(move |inner| Arc::new(PacedTarget { inner, courses: target.clone() }))),
            ..Decorators::default()
        }
    }
}

struct PacedLedger {
    inner: Arc<dyn Ledger>,
    courses: Courses,
}

impl Ledger for PacedLedger {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        Box::pin(async move {
            let steps =
                [("lease.intended", Intend, Intended), ("lease.handed", Hand, Handed), ("task.ended", End, Ended)];
            let Some((_, before, after)) = steps.into_iter().find(|(kind, ..)| says(&unit, kind)) else {
                return self.inner.commit(unit).await;
            };
            let task = unit.records()[0].task_id.expect("the record names its task");
            self.courses.pass(task, before).await;
            let durable = self.inner.commit(unit).await?;
            self.courses.pass(task, after).await;
            Ok(durable)
        })
    }
}

struct PacedTarget {
    inner: Arc<dyn Target>,
    courses: Courses,
}

impl Target for PacedTarget {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        self.inner.role(role)
    }
    fn roles(&self) -> Vec<String> {
        self.inner.roles()
    }
    fn issue<'a>(&'a self, intended: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(async move {
            self.courses.pass(request.task, Issue).await;
            let issued = self.inner.issue(intended, request).await?;
            self.courses.pass(request.task, Made).await;
            Ok(issued)
        })
    }
    fn mint<'a>(&'a self, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        self.inner.mint(request)
    }
    fn audiences(&self) -> Vec<String> {
        self.inner.audiences()
    }
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        self.inner.revoke(lease)
    }
    fn scan<'a>(&'a self, prefix: &'a str, after: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        self.inner.scan(prefix, after)
    }
    fn check(&self) -> Fut<'_, Vec<Missing>> {
        self.inner.check()
    }
}

/// One task on its course; what is wrong with what its client heard.
async fn race(world: &World, server: &Local, node: &Connection, task: &Task, course: &Course) -> Option<String> {
    let exchange = async {
        let outcome = task.exchange(world, &server.hello, ROLES[0]).await;
        course.over(&EXCHANGE);
        outcome
    };
    let end = async {
        course.pass(AskEnd).await;
        let outcome = node.end(world, &task.id).await;
        course.over(&ENDING);
        outcome
    };
    let (exchanged, ended) = tokio::join!(exchange, end);
    let wrong = match (&exchanged, ended) {
        (_, Err(error)) => Some(format!("the end was not acknowledged: {error}")),
        (Err(CallError::Broken(why)), _) => Some(format!("the exchange was not answered: {why}")),
        (Ok(_), _) if course.is_before(Ended, Hand) => Some("handed after the end was durable".into()),
        (Err(why), _) if course.is_before(Handed, AskEnd) => {
            Some(format!("refused before anybody asked for the end: {why}"))
        }
        _ => None,
    };
    wrong.map(|why| format!("{}: {why}\n  in the order {:?}", task.id, course.order))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_races_an_issue_leaves_no_live_credential_in_any_order() {
    let pg = PostgresFixture::start().await;
    for seed in seeds(3) {
        if let Err(why) = one_seed(&pg, seed).await {
            panic!("ERRAND_SEED={seed}:\n{why}");
        }
    }
}

async fn one_seed(pg: &PostgresFixture, seed: u64) -> Result<(), String> {
    let world = World::new(pg);
    let courses = Courses::default();
    let server = Local::start(&world, courses.decorators()).await;
    let agent = Agent::attest(&server.hello).await.map_err(|e| e.to_string())?;
    let node = agent.at(&server.hello);
    let mut all = orders();
    assert_eq!(all.len(), 84);
    Dice::new(seed).shuffle(&mut all);
    let (mut wrong, mut run) = (Vec::new(), HashMap::new());
    for abreast in all.chunks(ABREAST) {
        let started = join_all(abreast.iter().map(|_| node.start("race"))).await;
        let tasks: Vec<Task> = started.into_iter().collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        let racers = tasks.iter().zip(abreast).map(|(task, order)| {
            let course = Arc::new(Course { order: order.clone(), passed: watch::Sender::default() });
            courses.set(task.id.parse().expect("a task id"), course.clone());
            run.insert(task.id.clone(), order.clone());
            let (world, server, node) = (&world, &server, &node);
            async move { race(world, server, node, task, &course).await }
        });
        wrong.extend(join_all(racers).await.into_iter().flatten());
    }
    let over = all_leases(&world, |l| l.state.is_final()).await;
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    for lease in evidence.leases.iter().filter(|l| !l.state.is_final()) {
        let order = run.get(&lease.task_id.to_string());
        wrong.push(format!(
            "lease {} of {} is {}\n  in the order {order:?}",
            lease.id,
            lease.task_id,
            lease.state.as_str()
        ));
    }
    if !over || !violations.is_empty() || !evidence.roles.is_empty() {
        wrong.push(format!("{violations}left in the target: {:?}", evidence.roles));
    }
    // Both outcomes must have happened, or nothing was raced.
    let seen = evidence.seen.iter().filter(|s| matches!(s, Seen::Credential { .. })).count();
    if seen == 0 || seen == all.len() {
        wrong.push(format!("{seen} of {} exchanges succeeded", all.len()));
    }
    server.running.stop().await;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}
