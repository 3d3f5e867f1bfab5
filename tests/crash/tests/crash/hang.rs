//! A target that answers nothing, with more to revoke in it than one round of the reconciler holds: it holds up nobody.

use crate::local::Local;
use futures_util::{StreamExt as _, stream};
use proto_types::{Fut, Lease, LeaseState, Secret};
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

/// More than the 256 of a round.
const LEASES: usize = 300;
/// What is promised for a role and its sessions.
const GONE: Duration = Duration::from_secs(5);

/// Makes nothing and ends nothing; `orders-db` never answers.
struct Silent(Arc<dyn Target>);

impl Target for Silent {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        self.0.role(role)
    }
    fn roles(&self) -> Vec<String> {
        self.0.roles()
    }
    fn issue<'a>(&'a self, _: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(async move {
            Ok(Issued {
                fields: Secret::new(serde_json::json!({ "user": request.name }).to_string()),
                access_token: Secret::new("none".into()),
                token_type: "urn:errand:token-type:database-credential",
                placement: Vec::new(),
                handle: serde_json::Value::Null,
                not_after: request.not_after,
            })
        })
    }
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        let silent = lease.role.target() == "orders-db";
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
    let wrap = |inner| -> Arc<dyn Target> { Arc::new(Silent(inner)) };
    let decorators = Decorators { target: Some(Arc::new(wrap)), ..Decorators::default() };
    let server = Local::start(&world, decorators).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let many = node.start("look at many orders").await.expect("the task starts");
    let one = node.start("count the stock").await.expect("the task starts");
    let exchanges = stream::iter(0..LEASES).map(|_| many.exchange(&world, &server.hello, ROLES[0])).buffer_unordered(16);
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
