//! A target that does not answer: whoever else is to be ended is ended in time.

use crate::local::{Local, invented};
use futures_util::{StreamExt as _, future::join_all, stream};
use proto_types::{Fut, Lease, LeaseState};
use server_core::ports::{
    Durable, IssueError, IssueRequest, Issued, Missing, RevokeError, Revoked, RoleLimits, Target,
};
use server_daemon::Decorators;
use std::{sync::Arc, time::Duration};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::Agent,
    world::{NEIGHBOUR, ROLES, World},
};

/// More than the reconciler takes up in one round.
const LEASES: usize = 300;
/// What is promised for a role and its sessions.
const GONE: Duration = Duration::from_secs(5);

/// Makes nothing and ends nothing; what is named is never answered.
struct Silent {
    inner: Arc<dyn Target>,
    /// A role, when it is created.
    issue: &'static str,
    /// A target, when it is to end something.
    revoke: &'static str,
}

fn silent(issue: &'static str, revoke: &'static str) -> Decorators {
    let wrap = move |inner| -> Arc<dyn Target> { Arc::new(Silent { inner, issue, revoke }) };
    Decorators { target: Some(Arc::new(wrap)), ..Decorators::default() }
}

impl Target for Silent {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        self.inner.role(role)
    }
    fn roles(&self) -> Vec<String> {
        self.inner.roles()
    }
    fn issue<'a>(&'a self, _: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(async move {
            if request.role == self.issue {
                std::future::pending::<()>().await;
            }
            Ok(invented(request))
        })
    }
    fn mint<'a>(&'a self, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        self.inner.mint(request)
    }
    fn audiences(&self) -> Vec<String> {
        self.inner.audiences()
    }
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        let silent = lease.role.target() == self.revoke;
        Box::pin(async move { if silent { std::future::pending().await } else { Ok(Revoked::Gone) } })
    }
    fn scan<'a>(&'a self, _: &'a str, _: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn check(&self) -> Fut<'_, Vec<Missing>> {
        Box::pin(async { Vec::new() })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_does_not_answer_holds_up_no_other() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Local::start(&world, silent("", "orders-db")).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let many = node.start("look at many orders").await.expect("the task starts");
    let one = node.start("count the stock").await.expect("the task starts");
    let exchanges =
        stream::iter(0..LEASES).map(|_| many.exchange(&world, &server.hello, ROLES[0])).buffer_unordered(16);
    let refused: Vec<_> = exchanges.filter_map(async |outcome| outcome.err()).collect().await;
    assert!(refused.is_empty(), "{} were refused: {:?}", refused.len(), refused[0]);
    one.exchange(&world, &server.hello, NEIGHBOUR).await.expect("a credential");

    node.end(&world, &many.id).await.expect("the task ends");
    node.end(&world, &one.id).await.expect("the task ends");
    let states = |target: &str| -> Vec<LeaseState> {
        server.leases().iter().filter(|l| l.role.target() == target).map(|l| l.state).collect()
    };
    poll::until("gone in the other target", GONE, async || states("stock-db") == [LeaseState::Revoked]).await;
    assert_eq!(states("orders-db"), vec![LeaseState::Revoking; LEASES]);
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_issued_takes_no_turn_from_what_is_to_be_ended() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Local::start(&world, silent("writer", "")).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let busy = node.start("write many orders").await.expect("the task starts");
    let one = node.start("look at an order").await.expect("the task starts");
    one.exchange(&world, &server.hello, ROLES[0]).await.expect("a credential");
    let issuing = join_all((0..40).map(|_| busy.exchange(&world, &server.hello, ROLES[1])));
    let states = || -> Vec<LeaseState> { server.leases().iter().map(|l| l.state).collect() };
    let ending = async {
        poll::until("all under way", GONE, async || states().len() == 41).await;
        node.end(&world, &one.id).await.expect("the task ends");
        poll::until("gone", GONE, async || states().contains(&LeaseState::Revoked)).await;
    };
    tokio::select! {
        _ = issuing => panic!("nothing can have been issued"),
        () = ending => {}
    }
    server.running.stop().await;
}
