//! A bug that panics inside one request: that request fails, all others are served, and nothing is forgotten. Fault F39.

use crate::{
    local::Local,
    steps::{REST, at_rest, verdict},
};
use proto_types::{Fut, Lease};
use server_core::ports::{
    Commit, CommitError, Durable, IssueError, IssueRequest, Issued, Ledger, Missing, RevokeError, Revoked, RoleLimits,
    Target,
};
use server_daemon::Decorators;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{Agent, CallError},
    point::says,
    world::{ROLES, World},
};

/// Panics once after the target has made something, and once before it ends something.
struct Faulty {
    inner: Arc<dyn Target>,
    issue: Arc<AtomicBool>,
    revoke: Arc<AtomicBool>,
}

fn falls(armed: &AtomicBool) {
    assert!(!armed.swap(false, Ordering::SeqCst), "a planted panic");
}

impl Target for Faulty {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        self.inner.role(role)
    }
    fn roles(&self) -> Vec<String> {
        self.inner.roles()
    }
    fn issue<'a>(&'a self, intended: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(async move {
            let issued = self.inner.issue(intended, request).await?;
            falls(&self.issue);
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
        Box::pin(async move {
            falls(&self.revoke);
            self.inner.revoke(lease).await
        })
    }
    fn scan<'a>(&'a self, prefix: &'a str, after: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        self.inner.scan(prefix, after)
    }
    fn check(&self) -> Fut<'_, Vec<Missing>> {
        self.inner.check()
    }
}

/// Panics once instead of committing a unit with such a record.
struct FaultyLedger {
    inner: Arc<dyn Ledger>,
    kind: &'static str,
    armed: Arc<AtomicBool>,
}

impl Ledger for FaultyLedger {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        Box::pin(async move {
            if says(&unit, self.kind) {
                falls(&self.armed);
            }
            self.inner.commit(unit).await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_target_costs_its_own_request_and_the_next_is_served() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let (issue, revoke) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let (first, second) = (issue.clone(), revoke.clone());
    let wrap =
        move |inner| -> Arc<dyn Target> { Arc::new(Faulty { inner, issue: first.clone(), revoke: second.clone() }) };
    let server = Local::start(&world, Decorators { target: Some(Arc::new(wrap)), ..Decorators::default() }).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let task = node.start("look at an order").await.expect("the task starts");
    let fallen = task.exchange(&world, &server.hello, ROLES[0]).await;
    assert!(matches!(fallen, Err(CallError::Refused { status: 500, .. })), "{fallen:?}");
    task.exchange(&world, &server.hello, ROLES[0]).await.expect("the next request is served");
    assert!(!issue.load(Ordering::SeqCst));

    node.end(&world, &task.id).await.expect("the task ends");
    let over = async || server.leases().iter().all(|l| l.state.is_final());
    poll::until("what the panic left is ended too, and one more panic does not stop that", 4 * REST, over).await;
    assert!(!revoke.load(Ordering::SeqCst));
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", 0));
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_at_any_record_leaves_a_server_that_serves() {
    let pg = PostgresFixture::start().await;
    for kind in ["lease.intended", "lease.handed", "task.started", "task.ended", "token.issued"] {
        let world = World::new(&pg);
        let armed = Arc::new(AtomicBool::new(true));
        let own = armed.clone();
        let wrap = move |inner| -> Arc<dyn Ledger> { Arc::new(FaultyLedger { inner, kind, armed: own }) };
        let server = Local::start(&world, Decorators { ledger: Some(Box::new(wrap)), ..Decorators::default() }).await;
        let agent = Agent::attest(&server.hello).await.expect("the agent attests");
        let node = agent.at(&server.hello);
        // Once in vain, once not: whichever of the calls comes by the record.
        for _ in 0..2 {
            let Ok(task) = node.start("look at an order").await else { continue };
            let _ = task.exchange(&world, &server.hello, ROLES[0]).await;
            let _ = task.token(&world, &server.hello).await;
            let _ = node.end(&world, &task.id).await;
        }
        assert!(!armed.load(Ordering::SeqCst), "{kind} was never written");
        let task = node.start("look again").await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        task.exchange(&world, &server.hello, ROLES[0]).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        node.end(&world, &task.id).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        let rest = async || server.leases().iter().all(at_rest);
        poll::until(&format!("{kind}: at rest"), 4 * REST, rest).await;
        server.running.stop().await;
    }
}
